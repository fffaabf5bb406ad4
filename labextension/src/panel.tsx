/** The panel: the group, its ranks, and the ledger of the run that goes on. */
import { ReactWidget, UseSignal } from '@jupyterlab/ui-components';
import { Signal } from '@lumino/signaling';
import { type JSX, useEffect, useRef, useState } from 'react';
import { Chart } from './chart';
import { ledgerIcon } from './icon';
import type { KernelLink } from './link';
import type { Group, GroupState, View } from './model';

/** From this many ranks on, tiles with a number instead of lines. */
const MANY = 9;

export class LedgerPanel extends ReactWidget {
  constructor() {
    super();
    this.id = 'eai-notebook-panel';
    this.title.icon = ledgerIcon;
    this.title.caption = 'Ranks and ledger';
    this.addClass('eai-Panel');
  }

  /** Show the kernel of another notebook; null if there is none. */
  showKernel(link: KernelLink | null, notebook: string): void {
    this._link = link;
    this._notebook = notebook;
    this._switched.emit();
  }

  protected override render(): JSX.Element {
    return (
      <UseSignal signal={this._switched}>
        {() =>
          this._link === null ? (
            <p className="eai-Panel-hint">Open a notebook to start a group of ranks from here.</p>
          ) : (
            // A UseSignal does not follow when its signal changes: another link, another view.
            <KernelView key={this._link.id} link={this._link} notebook={this._notebook} />
          )
        }
      </UseSignal>
    );
  }

  private _link: KernelLink | null = null;
  private _notebook = '';
  private readonly _switched = new Signal<this, void>(this);
}

function KernelView({ link, notebook }: { link: KernelLink; notebook: string }): JSX.Element {
  return (
    <UseSignal signal={link.state.changed}>
      {() => {
        const { group, view } = link.state;
        return (
          <>
            <GroupSection link={link} notebook={notebook} />
            {group !== null && group.ranks.length > 0 && <RankSection group={group} />}
            <section className="eai-Panel-section" aria-label="Ledger">
              <h2>{view === null ? 'Ledger' : `Ledger · ${view.run.name}`}</h2>
              {view === null ? (
                <p className="eai-Panel-hint">
                  Train in a <code>%%distributed</code> cell, and see here where each step’s time
                  goes.
                </p>
              ) : (
                <ChartHost view={view} />
              )}
            </section>
          </>
        );
      }}
    </UseSignal>
  );
}

function GroupSection({ link, notebook }: { link: KernelLink; notebook: string }): JSX.Element {
  const [ranks, setRanks] = useState(2);
  const { group, notice, pending } = link.state;
  const isDown = group === null || group.state === 'down' || group.state === 'lost';
  // The kernel tells of a group only once it is being made.
  const awaited = isDown && pending;
  const state = awaited ? 'starting' : (group?.state ?? 'down');
  const words = awaited ? notice : inWords(state, group?.size ?? 0);
  // Of a group that is well the state says it all.
  const isWell = state === 'up' || state === 'busy';
  const said = notice === '' && !isWell ? (group?.message ?? '') : awaited ? '' : notice;
  return (
    <section className="eai-Panel-section" aria-label="Group">
      <h2 title={notebook}>Group · {notebook}</h2>
      <div className="eai-Panel-state" data-state={state} role="status">
        <span className="eai-Panel-dot" />
        {words}
      </div>
      {said !== '' && <p className="eai-Panel-message">{said}</p>}
      <div className="eai-Panel-buttons">
        {isDown ? (
          <form
            onSubmit={event => {
              event.preventDefault();
              void link.start(ranks);
            }}
          >
            <label>
              Ranks{' '}
              <input
                className="jp-mod-styled"
                type="number"
                min={1}
                max={512}
                disabled={pending}
                value={ranks}
                onChange={event => {
                  setRanks(event.target.valueAsNumber || 1);
                }}
              />
            </label>
            <button className="jp-mod-styled jp-mod-accept" type="submit" disabled={pending}>
              Start
            </button>
          </form>
        ) : (
          <>
            <button
              className="jp-mod-styled jp-mod-warn"
              disabled={state !== 'busy'}
              title="Interrupt the running cell on every rank; variables stay"
              onClick={() => void link.stop()}
            >
              Stop
            </button>
            <button
              className="jp-mod-styled"
              disabled={pending || state === 'starting' || state === 'stopping'}
              title="End every rank; their variables are lost"
              onClick={() => void link.shutDown()}
            >
              Shut down
            </button>
          </>
        )}
      </div>
    </section>
  );
}

function RankSection({ group }: { group: Group }): JSX.Element {
  const many = group.ranks.length >= MANY;
  const hosts = [...new Set(group.ranks.map(rank => rank.host))];
  return (
    <section className="eai-Panel-section" aria-label="Ranks">
      <h2>
        Ranks · {group.ranks.length} on {hosts.length === 1 ? hosts[0] : `${hosts.length} hosts`}
      </h2>
      {hosts.map(host => (
        <div key={host}>
          {hosts.length > 1 && <h3>{host}</h3>}
          <ul className={many ? 'eai-Panel-tiles' : 'eai-Panel-ranks'}>
            {group.ranks
              .filter(rank => rank.host === host)
              .map(rank => (
                <li
                  key={rank.rank}
                  data-state={rank.state}
                  title={`rank ${rank.rank} on ${rank.host}, pid ${rank.pid ?? 'unknown'}: ${rank.state}`}
                >
                  {many ? (
                    rank.rank
                  ) : (
                    <>
                      <span className="eai-Panel-dot" />
                      <span>rank {rank.rank}</span>
                      <span className="eai-Panel-faint">{rank.state}</span>
                    </>
                  )}
                </li>
              ))}
          </ul>
        </div>
      ))}
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

function inWords(state: GroupState, size: number): string {
  const ranks = `${size} rank${size === 1 ? '' : 's'}`;
  switch (state) {
    case 'down':
      return 'No group is running';
    case 'starting':
      return size > 0 ? `Starting ${ranks}` : 'Starting';
    case 'up':
      return `${ranks} ready`;
    case 'busy':
      return `${ranks} running a cell`;
    case 'stopping':
      return 'Stopping';
    case 'lost':
      return 'The group is lost';
  }
}
