/** Compare a variable of the ranks, also while they train: at the end of the same step. */
import { type JSX, useState } from 'react';
import type { KernelLink } from './kernelConnection';
import type { Group, View } from './types';
import { SaidMessage } from './saidMessage';

interface Props {
  link: KernelLink;
  group: Group;
  view: View | null;
}

export function DiffButton({ link, group, view }: Props): JSX.Element {
  const [isOpen, setIsOpen] = useState(false);
  const [name, setName] = useState('model');
  const [said, setSaid] = useState({ text: '', failed: false });
  /** The number of the comparison before the one that was asked for. */
  const [before, setBefore] = useState(0);
  const latest = group.diff ?? null;
  const isDone = latest !== null && latest.number > before && said.text !== '';
  const ask = (): void => {
    setBefore(latest?.number ?? 0);
    setSaid({ text: 'Asking…', failed: false });
    link.diff(name.trim()).then(
      text => {
        setSaid({ text, failed: false });
      },
      (error: unknown) => {
        setSaid({ text: error instanceof Error ? error.message : String(error), failed: true });
      }
    );
  };
  return (
    <>
      <button
        className="jp-mod-styled"
        title="Is a variable, such as the model, the same on all ranks?"
        aria-expanded={isOpen}
        onClick={() => {
          setIsOpen(!isOpen);
        }}
      >
        Diff
      </button>
      {isOpen && (
        <form
          className="eai-Panel-ask"
          onSubmit={event => {
            event.preventDefault();
            ask();
          }}
        >
          <label>
            variable{' '}
            <input
              className="jp-mod-styled"
              type="text"
              spellCheck={false}
              value={name}
              onChange={event => {
                setName(event.target.value);
              }}
            />
          </label>
          <button className="jp-mod-styled" type="submit" disabled={name.trim() === ''}>
            Compare
          </button>
          <SaidMessage said={said}>
            {code(isDone && !said.failed ? latest.words : said.text)}
            {isDone || said.failed ? '' : progress(said.text, view)}
          </SaidMessage>
        </form>
      )}
    </>
  );
}

/** How far the run is from the step that was named. */
function progress(asked: string, view: View | null): string {
  const step = /end of step (\d+)/.exec(asked)?.[1];
  const taken = view?.run.state === 'running' ? view.run.steps : 0;
  return step === undefined || taken === 0 || taken >= Number(step)
    ? ''
    : `; ${taken.toLocaleString('en')} are taken`;
}

/** Text in which what stands between backticks is code. */
function code(text: string): (JSX.Element | string)[] {
  return text.split('`').map((piece, at) => (at % 2 === 1 ? <code key={at}>{piece}</code> : piece));
}
