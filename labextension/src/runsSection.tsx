/** Earlier runs, from their records: a table to search and sort, and what can be done with them. */
import { Dialog, InputDialog, showDialog } from '@jupyterlab/apputils';
import { type JSX, useEffect, useState } from 'react';
import { ComparisonTable } from './comparison';
import type { KernelLink } from './kernelConnection';
import { markdownTable } from './markdown';
import type { Comparison, Download, RunEntry, View } from './types';
import { SaidMessage } from './saidMessage';
import { save } from './save';
import { count, duration, ms } from './formatting';

interface Props {
  link: KernelLink;
  /** Whether a run goes on now: when it ends, the list has one more. */
  isRunning: boolean;
  /** Whether the runs are listed at once. */
  isListed?: boolean;
  onOpen: (view: View) => void;
  /** Shows runs together in a tab; null where a front end has no tabs. */
  openRuns: ((views: readonly View[]) => void) | null;
}

type Key = 'name' | 'started' | 'took' | 'size' | 'steps' | 'step_ms' | 'loss';

interface Column {
  key: Key;
  label: string;
  value: (run: RunEntry) => string | number | null;
  text: (run: RunEntry) => string;
  /** Left out where the panel is narrow. */
  isWide?: boolean;
}

const COLUMNS: readonly Column[] = [
  { key: 'name', label: 'name', value: run => run.name.toLowerCase(), text: run => run.name },
  { key: 'started', label: 'when', value: run => run.started, text: when },
  {
    key: 'took',
    label: 'took',
    value: took,
    text: run => shown(took(run), duration),
    isWide: true
  },
  { key: 'size', label: 'ranks', value: run => run.size, text: run => `${run.size}`, isWide: true },
  {
    key: 'steps',
    label: 'steps',
    value: run => run.steps,
    text: run => count(run.steps),
    isWide: true
  },
  {
    key: 'step_ms',
    label: 'a step',
    value: run => run.step_ms,
    text: run => shown(run.step_ms, ms)
  },
  {
    key: 'loss',
    label: 'loss',
    value: loss,
    text: run => shown(loss(run), value => String(Number(value.toPrecision(4)))),
    isWide: true
  }
];

export function RunsSection(props: Props): JSX.Element {
  const { link, isRunning, isListed = false, onOpen, openRuns } = props;
  const [runs, setRuns] = useState<RunEntry[] | null>(null);
  const [chosen, setChosen] = useState<string[]>([]);
  const [comparison, setComparison] = useState<Comparison | null>(null);
  const [said, setSaid] = useState({ text: '', failed: false });
  const [sought, setSought] = useState('');
  const [order, setOrder] = useState<{ key: Key; up: boolean }>({ key: 'started', up: false });

  const perform = (words: string, action: () => Promise<void>): void => {
    setSaid({ text: words, failed: false });
    action().then(
      () => {
        setSaid({ text: '', failed: false });
      },
      (error: unknown) => {
        setSaid({ text: error instanceof Error ? error.message : String(error), failed: true });
      }
    );
  };
  const list = async (): Promise<void> => {
    setRuns(await link.runs());
  };
  const change = (words: string, action: () => Promise<void>): void => {
    perform(words, async () => {
      await action();
      await list();
    });
  };
  const isShown = isListed || runs !== null;
  useEffect(() => {
    if (isShown && !isRunning) {
      void link.runs().then(setRuns, () => undefined);
    }
  }, [isShown, isRunning, link]);
  const open = (folder: string): void => {
    perform('Reading…', async () => {
      onOpen(await link.open(folder));
    });
  };
  const shown = (runs ?? []).filter(run => found(run, sought)).sort(sorted(order.key, order.up));
  const [one, two] = chosen;
  const only = chosen.length === 1 ? (runs ?? []).find(run => run.folder === one) : undefined;
  const header = (column: Column): JSX.Element => (
    <th
      key={column.key}
      scope="col"
      className={column.isWide ? 'eai-mod-wide' : ''}
      aria-sort={order.key !== column.key ? 'none' : order.up ? 'ascending' : 'descending'}
    >
      <button
        onClick={() => {
          setOrder({
            key: column.key,
            up: order.key === column.key ? !order.up : column.key === 'name'
          });
        }}
      >
        {column.label}
        {order.key === column.key ? (order.up ? ' ↑' : ' ↓') : ''}
      </button>
    </th>
  );
  return (
    <section className="eai-Panel-section" aria-label="Runs">
      <h2>Runs</h2>
      <div className="eai-Panel-buttons eai-mod-above">
        <button
          className="jp-mod-styled"
          onClick={() => {
            perform('Looking…', list);
          }}
        >
          {runs === null ? 'Show earlier runs' : 'Refresh'}
        </button>
        {runs !== null && runs.length > 0 && (
          <input
            className="jp-mod-styled eai-Runs-search"
            type="search"
            placeholder="search"
            aria-label="Search runs"
            value={sought}
            onChange={event => {
              setSought(event.target.value);
            }}
          />
        )}
      </div>
      {runs?.length === 0 && <p className="eai-Panel-hint">No run is recorded here yet.</p>}
      {runs !== null && runs.length > 0 && (
        <>
          <div className="eai-Runs" tabIndex={0} role="group" aria-label="List of runs">
            <table>
              <thead>
                <tr>
                  <th scope="col">
                    <span className="eai-mod-hidden">chosen and starred</span>
                  </th>
                  {COLUMNS.map(header)}
                </tr>
              </thead>
              <tbody>
                {shown.map(run => (
                  <Row
                    key={run.folder}
                    run={run}
                    isChosen={chosen.includes(run.folder)}
                    onChoose={() => {
                      setChosen(toggled(chosen, run.folder));
                    }}
                    onOpen={() => {
                      open(run.folder);
                    }}
                    onStar={() => {
                      const args = { folder: run.folder, on: !run.starred };
                      change('', () => link.change('star', args));
                    }}
                    onTag={tag => {
                      setSought(`#${tag}`);
                    }}
                  />
                ))}
              </tbody>
            </table>
          </div>
          {shown.length === 0 && <p className="eai-Panel-hint">No run matches.</p>}
          <div className="eai-Panel-buttons">
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
            {openRuns !== null && chosen.length > 1 && (
              <button
                className="jp-mod-styled"
                title="Loss, metrics and step time of the chosen runs in one picture, in a tab"
                onClick={() => {
                  perform('Reading…', async () => {
                    openRuns(await Promise.all(chosen.map(folder => link.open(folder))));
                  });
                }}
              >
                Overlay
              </button>
            )}
            <button
              className="jp-mod-styled"
              title="Copy the chosen runs, or all that are shown, as a Markdown table"
              disabled={shown.length === 0}
              onClick={() => {
                const some = shown.filter(run => chosen.includes(run.folder));
                perform('', () =>
                  navigator.clipboard.writeText(markdown(some.length ? some : shown))
                );
              }}
            >
              Copy table
            </button>
            {only === undefined ? (
              <span className="eai-Panel-faint">
                {chosen.length < 2
                  ? 'choose one run for more, two to compare, or several'
                  : `${chosen.length} chosen`}
              </span>
            ) : (
              <RunButtons
                run={only}
                perform={perform}
                file={kind => link.file(kind, only.folder)}
                onRename={name => {
                  change('Renaming…', () => link.change('rename', { folder: only.folder, name }));
                }}
                onNote={note => {
                  change('Writing…', () => link.change('note', { folder: only.folder, note }));
                }}
                onTag={tags => {
                  change('Writing…', () => link.change('tag', { folder: only.folder, tags }));
                }}
                onDelete={() => {
                  setChosen([]);
                  change('Deleting…', () => link.change('delete', { folder: only.folder }));
                }}
              />
            )}
          </div>
        </>
      )}
      <SaidMessage said={said} />
      {comparison !== null && <ComparisonTable comparison={comparison} />}
    </section>
  );
}

interface RowProps {
  run: RunEntry;
  isChosen: boolean;
  onChoose: () => void;
  onOpen: () => void;
  onStar: () => void;
  onTag: (tag: string) => void;
}

function Row({ run, isChosen, onChoose, onOpen, onStar, onTag }: RowProps): JSX.Element {
  const tooltip = [run.name, described(run), run.verdict, run.note]
    .filter(text => text !== '')
    .join('\n');
  return (
    <tr className={isChosen ? 'eai-mod-chosen' : ''} title={tooltip.replaceAll('`', '')}>
      <td className="eai-Runs-marks">
        <input
          type="checkbox"
          aria-label={`choose ${run.name}, ${when(run)}`}
          checked={isChosen}
          onChange={onChoose}
        />
        <button
          className="eai-Runs-star"
          aria-label={`star ${run.name}, ${when(run)}`}
          aria-pressed={run.starred}
          onClick={onStar}
        >
          {run.starred ? '★' : '☆'}
        </button>
      </td>
      {COLUMNS.map(column => (
        <td key={column.key} className={column.isWide ? 'eai-mod-wide' : ''}>
          {column.key === 'name' ? (
            <>
              <button
                className="eai-Runs-name"
                style={{ borderLeftColor: run.colour }}
                onClick={onOpen}
              >
                {run.name}
                {run.state !== 'done' && <span className="eai-Panel-faint"> {run.state}</span>}
              </button>
              {run.tags.map(tag => (
                <button
                  key={tag}
                  className="eai-Runs-tag"
                  title={`Show the runs with the tag ${tag}`}
                  onClick={() => {
                    onTag(tag);
                  }}
                >
                  #{tag}
                </button>
              ))}
              {run.note !== '' && <div className="eai-Runs-note">{run.note}</div>}
            </>
          ) : (
            column.text(run)
          )}
        </td>
      ))}
    </tr>
  );
}

interface ButtonsProps {
  run: RunEntry;
  perform: (words: string, action: () => Promise<void>) => void;
  file: (kind: 'page' | 'trace') => Promise<Download>;
  onRename: (name: string) => void;
  onNote: (note: string) => void;
  onTag: (tags: string) => void;
  onDelete: () => void;
}

function RunButtons(props: ButtonsProps): JSX.Element {
  const { run, perform, file, onRename, onNote, onTag, onDelete } = props;
  const button = (label: string, title: string, action: () => void): JSX.Element => (
    <button className="jp-mod-styled" title={title} onClick={action}>
      {label}
    </button>
  );
  const saving = (kind: 'page' | 'trace') => (): void => {
    perform('Writing…', async () => {
      save(await file(kind));
    });
  };
  return (
    <>
      {button('Save page', 'One HTML file that opens without a network', saving('page'))}
      {button(
        'Save trace',
        'For ui.perfetto.dev or Chrome: all ranks on one clock',
        saving('trace')
      )}
      {button('Rename', 'Give the run another name', () => {
        void InputDialog.getText({ title: 'Name of the run', text: run.name }).then(answer => {
          if (answer.button.accept && answer.value) {
            onRename(answer.value);
          }
        });
      })}
      {button('Note', 'Write a note to the run', () => {
        void InputDialog.getText({ title: 'Note to the run', text: run.note }).then(answer => {
          if (answer.button.accept) {
            onNote(answer.value ?? '');
          }
        });
      })}
      {button('Tags', 'Words by which the run is found', () => {
        void InputDialog.getText({
          title: 'Tags of the run, with commas between',
          text: run.tags.join(', ')
        }).then(answer => {
          if (answer.button.accept) {
            onTag(answer.value ?? '');
          }
        });
      })}
      {button('Copy path', run.path, () => {
        perform('', () => navigator.clipboard.writeText(run.path));
      })}
      {button('Delete', 'Delete the record of the run from the disk', () => {
        void showDialog({
          title: 'Delete the run?',
          body: `“${run.name}” of ${when(run)} is deleted from the disk.`,
          buttons: [Dialog.cancelButton(), Dialog.warnButton({ label: 'Delete' })],
          defaultButton: 0
        }).then(answer => {
          if (answer.button.accept) {
            onDelete();
          }
        });
      })}
    </>
  );
}

/** Runs as a Markdown table: the columns, the verdict, and what the user has written. */
function markdown(runs: readonly RunEntry[]): string {
  return markdownTable([
    [...COLUMNS.map(column => column.label), 'verdict', 'note'],
    ...runs.map(run => [...COLUMNS.map(column => column.text(run)), run.verdict, noted(run)])
  ]);
}

function noted(run: RunEntry): string {
  return [...run.tags.map(tag => `#${tag}`), run.note].filter(text => text !== '').join(' ');
}

function toggled(chosen: readonly string[], folder: string): string[] {
  return chosen.includes(folder) ? chosen.filter(name => name !== folder) : [...chosen, folder];
}

function found(run: RunEntry, sought: string): boolean {
  const tags = run.tags.map(tag => `#${tag}`);
  const text = [run.name, run.state, run.verdict, run.folder, run.note, ...tags, ...run.hosts]
    .join(' ')
    .toLowerCase();
  return sought
    .toLowerCase()
    .split(/\s+/)
    .every(word => text.includes(word));
}

/** Starred runs come first, whatever the order. */
function sorted(key: Key, up: boolean): (a: RunEntry, b: RunEntry) => number {
  const value = COLUMNS.find(column => column.key === key)?.value ?? (run => run.started);
  return (a, b) => {
    if (a.starred !== b.starred) {
      return a.starred ? -1 : 1;
    }
    const [one, two] = [value(a), value(b)];
    if (one === null || two === null) {
      return one === two ? 0 : one === null ? 1 : -1;
    }
    const compared =
      typeof one === 'string' || typeof two === 'string'
        ? String(one).localeCompare(String(two))
        : one - two;
    return up ? compared : -compared;
  };
}

function took(run: RunEntry): number | null {
  return run.ended === null ? null : Math.max(0, run.ended - run.started);
}

function loss(run: RunEntry): number | null {
  return run.values.loss ?? null;
}

function shown(value: number | null, words: (value: number) => string): string {
  return value === null ? '–' : words(value);
}

function when(run: RunEntry): string {
  const began = new Date(1000 * run.started);
  const isToday = began.toDateString() === new Date().toDateString();
  const day = isToday ? {} : ({ month: 'short', day: 'numeric' } as const);
  return began.toLocaleString([], { ...day, hour: '2-digit', minute: '2-digit' });
}

function described(run: RunEntry): string {
  const ranks = `${run.size} rank${run.size === 1 ? '' : 's'}`;
  const values = Object.entries(run.values).map(([name, value]) => `${name} ${value ?? '–'}`);
  return [`${count(run.steps)} steps on ${ranks}`, run.state, ...values].join(' · ');
}
