/** The ledger of a run: the one that goes on, or one opened from its record. */
import { type JSX, useState } from 'react';
import { AdviceList } from './adviceList';
import { ChartHost } from './chartHost';
import { DiffButton } from './diffButton';
import type { KernelLink } from './kernelConnection';
import type { Group, Report, View } from './types';
import type { Insert } from './panel';
import { NotifyBox } from './notifyBox';
import { ReportTable } from './reportTable';
import { SaidMessage } from './saidMessage';
import { pictureFile } from './pictureFile';
import type { Picture } from './live';
import { save, saveBlob } from './save';

/** How many steps the button has recorded; `%eai trace` takes any number. */
const TRACED = 20;

interface Props {
  link: KernelLink;
  group: Group | null;
  view: View | null;
  isRecorded: boolean;
  /** Null where there is no notebook. */
  insert: Insert | null;
  /** Opens the run in a tab; null where a front end has no tabs. */
  openTab: ((view: View | null) => void) | null;
  onClose: () => void;
}

export function LedgerSection(props: Props): JSX.Element {
  const { link, group, view, isRecorded, insert, openTab, onClose } = props;
  const queue = isRecorded || group?.state !== 'busy' ? '' : queueLine(group);
  const awaited = isRecorded ? '' : link.state.awaited;
  return (
    <section className="eai-Panel-section" aria-label="Ledger">
      <RunHeading view={view} />
      {isRecorded && (
        <div className="eai-Panel-buttons eai-mod-above">
          <span className="eai-Panel-faint">from its record</span>
          <button className="jp-mod-styled" onClick={onClose}>
            Back to now
          </button>
        </div>
      )}
      {awaited !== '' && (
        <p className="eai-Panel-message" role="status">
          {awaited}: getting ready, compiling the first step
        </p>
      )}
      {view === null && awaited !== '' ? null : view === null ? (
        <p className="eai-Panel-hint">
          Train in a <code>%%distributed</code> cell, and see here where each step’s time goes.
        </p>
      ) : (
        <ChartHost link={link} view={view} />
      )}
      {view?.trial != null && <p className="eai-Panel-message">tried: {view.trial}</p>}
      {queue !== '' && <p className="eai-Panel-faint eai-Panel-line">{queue}</p>}
      <div className="eai-Panel-buttons">
        {view !== null && openTab !== null && (
          <button
            className="jp-mod-styled"
            title="Open the run in a tab, with larger charts"
            onClick={() => {
              openTab(isRecorded ? view : null);
            }}
          >
            Open in tab
          </button>
        )}
        {view !== null && view.run.steps > 0 && (
          <PictureButtons link={link} view={view} insert={insert} />
        )}
        {!isRecorded && group !== null && isReady(group) && (
          <>
            <AskButtons link={link} hasRun={view !== null} />
            {view !== null && <AdviceList link={link} />}
            <DiffButton link={link} group={group} view={view} />
            <TraceButton link={link} group={group} view={view} />
          </>
        )}
        {!isRecorded && group !== null && <NotifyBox />}
      </div>
    </section>
  );
}

/** The run's picture as an output of a new cell, to keep, or as a file, to send. */
function PictureButtons(props: {
  link: KernelLink;
  view: View;
  insert: Insert | null;
}): JSX.Element {
  const { link, view, insert } = props;
  const [said, setSaid] = useState('');
  const button = (
    label: string,
    title: string,
    use: (picture: Picture) => void | Promise<void>
  ): JSX.Element => (
    <button
      className="jp-mod-styled"
      title={title}
      onClick={() => {
        setSaid('');
        link
          .picture(view.run.id)
          .then(use)
          .catch((error: unknown) => {
            setSaid(error instanceof Error ? error.message : String(error));
          });
      }}
    >
      {label}
    </button>
  );
  return (
    <>
      {insert !== null &&
        button(
          'Insert picture',
          'Put the picture of this run into a new cell, where it stays without a kernel',
          ({ code, data }) => {
            insert(code, data);
          }
        )}
      {button(
        'Save PNG',
        'The picture of this run as a file, for slides and mails',
        async ({ data }) => {
          const name = view.run.name.replace(/[^\p{L}\p{N}._-]+/gu, '_');
          saveBlob(`${name}.png`, await pictureFile(view, data['text/html'] ?? ''));
        }
      )}
      {said !== '' && (
        <p className="eai-Panel-message eai-mod-error" role="alert">
          {said}
        </p>
      )}
    </>
  );
}

/** Some steps in depth: what was asked, how far it has come, and the file at the end. */
function TraceButton(props: { link: KernelLink; group: Group; view: View | null }): JSX.Element {
  const { link, group, view } = props;
  const [said, setSaid] = useState({ text: '', failed: false });
  const [before, setBefore] = useState<string | null>(null);
  const trace = group.trace ?? null;
  const isDone = trace !== null && before !== null && trace.file !== before;
  const asked = /from step (\d+)/.exec(said.text);
  const last = asked === null ? null : Number(asked[1]) + TRACED;
  const taken = last === null ? 0 : Math.max(0, TRACED - (last - (view?.run.steps ?? 0)));
  const progress =
    last === null || said.failed
      ? ''
      : taken < TRACED
        ? `: ${taken} of ${TRACED} taken`
        : ': all taken, being written';
  const fail = (error: unknown): void => {
    setSaid({ text: error instanceof Error ? error.message : String(error), failed: true });
  };
  return (
    <>
      <button
        className="jp-mod-styled"
        title="Record TensorFlow, Horovod and the ledger of some steps of all ranks in one file for Perfetto"
        onClick={() => {
          setBefore(trace?.file ?? '');
          setSaid({ text: 'Asking…', failed: false });
          link.deepTrace(TRACED).then(text => {
            setSaid({ text, failed: false });
          }, fail);
        }}
      >
        Trace {TRACED} steps
      </button>
      {isDone ? (
        <div className="eai-Panel-message" role="status">
          {trace.words}
          <div className="eai-Panel-buttons">
            <button
              className="jp-mod-styled"
              title="For ui.perfetto.dev: open the site and drop the file there"
              onClick={() => {
                link.traced().then(save, fail);
              }}
            >
              Save trace file
            </button>
            <button
              className="jp-mod-styled"
              title={trace.file}
              onClick={() => void navigator.clipboard.writeText(trace.file)}
            >
              Copy path
            </button>
            <a
              className="eai-Panel-link"
              href="https://ui.perfetto.dev"
              target="_blank"
              rel="noopener noreferrer"
              title="Opens the viewer in a new tab; the file stays on this computer"
            >
              Open Perfetto
            </a>
          </div>
        </div>
      ) : (
        <SaidMessage said={said}>
          {said.text}
          {progress}
        </SaidMessage>
      )}
    </>
  );
}

/** What `%eai where` and `%eai report` say, which would wait for the cell's end as cells. */
function AskButtons({ link, hasRun }: { link: KernelLink; hasRun: boolean }): JSX.Element {
  const [said, setSaid] = useState<string | Report>('');
  const close = (): void => {
    setSaid('');
  };
  const button = (
    label: string,
    title: string,
    ask: () => Promise<string | Report>
  ): JSX.Element => (
    <button
      className="jp-mod-styled"
      title={title}
      onClick={() => {
        ask().then(setSaid, (error: unknown) => {
          setSaid(error instanceof Error ? error.message : String(error));
        });
      }}
    >
      {label}
    </button>
  );
  return (
    <>
      {button('Where', 'What every rank is doing now: its line and its function', () =>
        link.where()
      )}
      {hasRun && button('Report', 'The numbers of the latest run', () => link.report())}
      {typeof said !== 'string' ? (
        <ReportTable report={said} onClose={close} />
      ) : (
        said !== '' && (
          <>
            <button className="jp-mod-styled" title="Close the text" onClick={close}>
              Close
            </button>
            <pre className="eai-Panel-text" tabIndex={0} role="status">
              {said}
            </pre>
          </>
        )
      )}
    </>
  );
}

/** Whether ranks can be asked: until they have loaded TensorFlow there is nothing to know. */
function isReady(group: Group): boolean {
  return group.state === 'busy' || (group.state === 'up' && group.loading !== true);
}

/** The run's name, which is cut off first where there is no room, and how and when it ended. */
export function RunHeading({ view }: { view: View | null }): JSX.Element {
  const name = view === null ? 'Ledger' : `Ledger · ${view.run.name}`;
  const state = view === null ? '' : stateOf(view);
  return (
    <h2 className="eai-mod-parted" title={`${name}${state}`}>
      <span>{name}</span>
      <span>{state}</span>
    </h2>
  );
}

function stateOf(view: View): string {
  const { state, ended } = view.run;
  if (state === 'running') {
    return '';
  }
  const age = ended === null ? '' : ` ${ago(Date.now() / 1000 - ended)}`;
  return `\u00a0· ${state}${age}`;
}

function ago(seconds: number): string {
  if (seconds < 60) {
    return 'just now';
  }
  const minutes = Math.floor(seconds / 60);
  return minutes < 60
    ? `${minutes} min ago`
    : minutes < 48 * 60
      ? `${Math.floor(minutes / 60)} h ago`
      : `${Math.floor(minutes / 1440)} days ago`;
}

/** How many batches the readers have ready; empty where none are known. */
function queueLine(group: Group): string {
  const depths = group.ranks
    .map(rank => rank.vitals?.queue ?? null)
    .filter(depth => depth !== null);
  if (depths.length === 0) {
    return '';
  }
  const least = Math.min(...depths);
  const most = Math.max(...depths);
  const range = least === most ? String(most) : `${least} to ${most}`;
  return `readers: ${range} batch${most === 1 ? '' : 'es'} ready on each rank`;
}
