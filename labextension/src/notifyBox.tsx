/** The box that turns notifications on. */
import { type JSX, useState } from 'react';
import { isNotifying, setNotifying } from './runNotifier';

export function NotifyBox(): JSX.Element {
  const [isOn, setOn] = useState(isNotifying);
  const [problem, setProblem] = useState('');
  return (
    <>
      <label
        className="eai-Panel-check"
        title="A notification of the browser while another window is in front"
      >
        <input
          type="checkbox"
          checked={isOn}
          onChange={event => {
            const on = event.target.checked;
            void setNotifying(on).then(found => {
              setProblem(found);
              setOn(on && found === '');
            });
          }}
        />
        Notify when a run ends
      </label>
      {problem !== '' && (
        <p className="eai-Panel-message eai-mod-error" role="alert">
          {problem}
        </p>
      )}
    </>
  );
}
