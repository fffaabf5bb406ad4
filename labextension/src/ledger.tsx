/** The ledger of a run: the one that goes on, or one opened from its record. */
import { type JSX, useEffect, useRef } from 'react';
import { Chart } from './chart';
import type { View } from './model';

interface Props {
  view: View | null;
  isRecorded: boolean;
  onClose: () => void;
}

export function LedgerSection({ view, isRecorded, onClose }: Props): JSX.Element {
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
    </section>
  );
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
