/** What can be done about a run's losses, and a button to have a remedy tried on real steps. */
import { type JSX, useState } from 'react';
import type { KernelLink } from './kernelConnection';
import { SaidMessage } from './saidMessage';
import type { Advice } from './types';

export function AdviceList({ link }: { link: KernelLink }): JSX.Element {
  const [advice, setAdvice] = useState<Advice | null>(null);
  const [said, setSaid] = useState({ text: '', failed: false });
  const fail = (error: unknown): void => {
    setSaid({ text: error instanceof Error ? error.message : String(error), failed: true });
  };
  const show = (found: Advice | null): void => {
    setAdvice(found);
    setSaid({ text: '', failed: false });
  };
  return (
    <>
      <button
        className="jp-mod-styled"
        title="What can be done about the losses of the latest run, and what it is expected to gain"
        onClick={() => {
          link.advise().then(show, fail);
        }}
      >
        Advise
      </button>
      {advice !== null && (
        <>
          <button
            className="jp-mod-styled"
            title="Close the list"
            onClick={() => {
              show(null);
            }}
          >
            Close
          </button>
          <Remedies
            advice={advice}
            onTry={remedy => {
              setSaid({ text: 'Asking…', failed: false });
              link.tryRemedy(advice.run, remedy.number, remedy.words).then(text => {
                setSaid({ text, failed: false });
              }, fail);
            }}
          />
        </>
      )}
      <SaidMessage said={said} />
    </>
  );
}

type Remedy = Advice['remedies'][number];

function Remedies(props: { advice: Advice; onTry: (remedy: Remedy) => void }): JSX.Element {
  const { advice, onTry } = props;
  if (advice.remedies.length === 0 && advice.unmodelled.length === 0) {
    return <p className="eai-Panel-message">{plain(advice.verdict)}: no loss is worth a remedy</p>;
  }
  return (
    <div className="eai-Panel-message">
      <p>{plain(advice.verdict)}</p>
      <ol aria-label="Remedies">
        {advice.remedies.map(remedy => (
          <li key={remedy.words}>
            {plain(remedy.words)}
            <div className="eai-Panel-faint">{gainOf(remedy, advice.step_ms)}</div>
            {remedy.can_try && (
              <button
                className="jp-mod-styled"
                title="Switch it on and off on real steps, and keep it only if it helps beyond doubt"
                onClick={() => {
                  onTry(remedy);
                }}
              >
                Try
              </button>
            )}
          </li>
        ))}
      </ol>
      {advice.unmodelled.length > 0 && (
        <p className="eai-Panel-faint">of unknown gain: {plain(advice.unmodelled.join('; '))}</p>
      )}
    </div>
  );
}

/** What a remedy is expected to gain, and of what. */
function gainOf(remedy: Remedy, step_ms: Advice['step_ms']): string {
  const { expected_ms, low_ms, high_ms, loss, keeps_results } = remedy;
  const changes = keeps_results ? '' : ' · changes results';
  if (expected_ms === null || step_ms === null) {
    return `against ${plain(loss)}${changes}`;
  }
  const range = `${digits(low_ms)} to ${digits(high_ms)}`;
  return `expected: ${digits(expected_ms)} ms of ${digits(step_ms)} less (${range}), against ${plain(loss)}${changes}`;
}

function digits(value: number | null): string {
  return value === null ? '–' : String(Number(value.toPrecision(3)));
}

function plain(text: string): string {
  return text.replaceAll('`', '');
}
