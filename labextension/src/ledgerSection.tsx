/** The ledger of a run: the one that goes on, or one opened from its record. */
import { type JSX, useEffect, useRef, useState } from 'react';
import { Chart } from './chart';
import type { KernelLink } from './kernelConnection';
import type { Group, View } from './types';

/** How many steps the button has recorded; `%eai trace` takes any number. */
const TRACED = 20;

interface Props {
  link: KernelLink;
  group: Group | null;
  view: View | null;
  isRecorded: boolean;
  onClose: () => void;
}

export function LedgerSection({ link, group, view, isRecorded, onClose }: Props): JSX.Element {
  const queue = isRecorded || group?.state !== 'busy' ? '' : queueLine(group);
  return (
    <section className="eai-Panel-section" aria-label="Ledger">
      <h2>{view === null ? 'Ledger' : `Ledger · ${view.run.name}`}</h2>
      {isRecorded && (
        <div className="eai-Panel-buttons eai-mod-above">
          <span className="eai-Panel-faint">from its record</span>
          <button className="jp-mod-styled" onClick={onClose}>
            Back to now
          </button>
        </div>
      )}
      {view === null ? (
        <p className="eai-Panel-hint">
          Train in a <code>%%distributed</code> cell, and see here where each step’s time goes.
        </p>
      ) : (
        <ChartHost view={view} />
      )}
      {queue !== '' && <p className="eai-Panel-faint eai-Panel-line">{queue}</p>}
      {!isRecorded && (group?.state === 'busy' || group?.state === 'up') && (
        <TraceButton link={link} />
      )}
    </section>
  );
}

/** Some steps in depth: what the button asked for is told below it, the rest by the cell. */
function TraceButton({ link }: { link: KernelLink }): JSX.Element {
  const [said, setSaid] = useState('');
  return (
    <>
      <div className="eai-Panel-buttons">
        <button
          className="jp-mod-styled"
          title="Record TensorFlow, Horovod and the ledger of some steps of all ranks in one file for Perfetto"
          onClick={() => {
            setSaid('Asking…');
            link.deepTrace(TRACED).then(setSaid, (error: unknown) => {
              setSaid(error instanceof Error ? error.message : String(error));
            });
          }}
        >
          Trace {TRACED} steps
        </button>
      </div>
      {said !== '' && (
        <p className="eai-Panel-message" role="status">
          {said}
        </p>
      )}
    </>
  );
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

function ChartHost({ view }: { view: View }): JSX.Element {
  const host = useRef<HTMLDivElement>(null);
  const chart = useRef<Chart | null>(null);
  useEffect(() => {
    if (host.current === null) {
      return undefined;
    }
    chart.current = new Chart(host.current);
    return () => {
      chart.current?.dispose();
      chart.current = null;
    };
  }, []);
  useEffect(() => {
    chart.current?.draw(view);
  }, [view]);
  return <div ref={host} />;
}
