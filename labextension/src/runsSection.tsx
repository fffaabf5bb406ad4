/** Earlier runs, from their records: open one, compare two, save one as a file. */
import { type JSX, useState } from 'react';
import { ComparisonTable } from './comparison';
import type { KernelLink } from './kernelConnection';
import type { Comparison, Download, RunEntry, View } from './types';

interface Props {
  link: KernelLink;
  onOpen: (view: View) => void;
}

export function RunsSection({ link, onOpen }: Props): JSX.Element {
  const [runs, setRuns] = useState<RunEntry[] | null>(null);
  const [chosen, setChosen] = useState<string[]>([]);
  const [comparison, setComparison] = useState<Comparison | null>(null);
  const [said, setSaid] = useState('');

  const perform = (words: string, action: () => Promise<void>): void => {
    setSaid(words);
    action().then(
      () => {
        setSaid('');
      },
      (error: unknown) => {
        setSaid(error instanceof Error ? error.message : String(error));
      }
    );
  };
  const list = (): void => {
    perform('Looking…', async () => {
      setRuns(await link.runs());
    });
  };
  const [one, two] = chosen;
  const saveButton = (label: string, kind: 'page' | 'trace', title: string): JSX.Element => (
    <button
      className="jp-mod-styled"
      disabled={chosen.length !== 1}
      title={title}
      onClick={() => {
        perform('Writing…', async () => {
          save(await link.file(kind, one ?? ''));
        });
      }}
    >
      {label}
    </button>
  );
  return (
    <section className="eai-Panel-section" aria-label="Runs">
      <h2>Runs</h2>
      <div className="eai-Panel-buttons eai-mod-above">
        <button className="jp-mod-styled" onClick={list}>
          {runs === null ? 'Show earlier runs' : 'Refresh'}
        </button>
      </div>
      {runs?.length === 0 && <p className="eai-Panel-hint">No run is recorded here yet.</p>}
      {runs !== null && runs.length > 0 && (
        <>
          <ul className="eai-Runs">
            {runs.map(run => (
              <li key={run.folder}>
                <label>
                  <input
                    type="checkbox"
                    checked={chosen.includes(run.folder)}
                    onChange={() => {
                      setChosen(toggled(chosen, run.folder));
                    }}
                  />
                  <span>{run.name}</span>
                  <span className="eai-Panel-faint">{described(run)}</span>
                </label>
              </li>
            ))}
          </ul>
          <div className="eai-Panel-buttons">
            <button
              className="jp-mod-styled"
              disabled={chosen.length !== 1}
              title="Show the chosen run in the ledger above"
              onClick={() => {
                perform('Reading…', async () => {
                  onOpen(await link.open(one ?? ''));
                });
              }}
            >
              Open
            </button>
            <button
              className="jp-mod-styled"
              disabled={chosen.length !== 2}
              title="Choose two runs: the first chosen is the one before"
              onClick={() => {
                perform('Comparing…', async () => {
                  setComparison(await link.compare(one ?? '', two ?? ''));
                });
              }}
            >
              Compare
            </button>
            {saveButton('Save page', 'page', 'One HTML file that opens without a network')}
            {saveButton(
              'Save trace',
              'trace',
              'For ui.perfetto.dev or Chrome: all ranks on one clock'
            )}
          </div>
        </>
      )}
      {said !== '' && (
        <p className="eai-Panel-message" role="status">
          {said}
        </p>
      )}
      {comparison !== null && <ComparisonTable comparison={comparison} />}
    </section>
  );
}

/** Two can be chosen; a third takes the place of the first. */
function toggled(chosen: readonly string[], folder: string): string[] {
  return chosen.includes(folder)
    ? chosen.filter(name => name !== folder)
    : [...chosen, folder].slice(-2);
}

function described(run: RunEntry): string {
  const when = new Date(1000 * run.started).toLocaleString([], {
    month: 'short',
    day: 'numeric',
    hour: '2-digit',
    minute: '2-digit'
  });
  const ranks = `${run.size} rank${run.size === 1 ? '' : 's'}`;
  const state = run.state === 'done' ? '' : `, ${run.state}`;
  return `${when} · ${run.steps} steps on ${ranks}${state}`;
}

/** Have the browser save a file. */
function save(file: Download): void {
  const url = URL.createObjectURL(new Blob([file.text], { type: file.type }));
  const link = document.createElement('a');
  link.href = url;
  link.download = file.name;
  link.click();
  URL.revokeObjectURL(url);
}
