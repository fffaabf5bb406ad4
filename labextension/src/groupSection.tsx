/** The group: its state in words, and the buttons that start, stop and end it. */
import { type JSX, useState } from 'react';
import { upCode, WIRES } from './startMagic';
import type { KernelLink } from './kernelConnection';
import type { GroupState } from './types';
import type { Insert } from './panel';

interface Props {
  link: KernelLink;
  notebook: string;
  insert: Insert;
}

export function GroupSection({ link, notebook, insert }: Props): JSX.Element {
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
      {!link.state.besideCells && (
        <p className="eai-Panel-message">
          This kernel is older than ipykernel 7: while a cell runs only Stop is served, all else
          when it has ended.
        </p>
      )}
      {isDown ? (
        <StartForm link={link} insert={insert} canRestart={group?.state === 'lost'} />
      ) : (
        <UpButtons link={link} state={state} />
      )}
    </section>
  );
}

function StartForm(props: { link: KernelLink; insert: Insert; canRestart: boolean }): JSX.Element {
  const { link, insert, canRestart } = props;
  const [ranks, setRanks] = useState(2);
  const [hosts, setHosts] = useState('');
  const [wire, setWire] = useState<string>(WIRES[0]);
  const [keep, setKeep] = useState(false);
  const { pending } = link.state;
  const wish = { ranks, hosts, wire, keep };
  return (
    <form
      className="eai-Panel-form"
      onSubmit={event => {
        event.preventDefault();
        void link.start(wish);
      }}
    >
      <label>
        Ranks{' '}
        <input
          className="jp-mod-styled"
          type="number"
          min={1}
          max={512}
          disabled={pending || hosts.trim() !== ''}
          value={ranks}
          onChange={event => {
            setRanks(event.target.valueAsNumber || 1);
          }}
        />
      </label>
      <label className="eai-mod-wide">
        Hosts{' '}
        <input
          className="jp-mod-styled"
          type="text"
          placeholder="this machine"
          title="Other machines by ssh, each with its number of ranks: gpu1:8,gpu2:8"
          disabled={pending}
          value={hosts}
          onChange={event => {
            setHosts(event.target.value);
          }}
        />
      </label>
      <label>
        Wire{' '}
        <select
          className="jp-mod-styled"
          title="What gradients travel in between ranks, where the optimizer does not say"
          disabled={pending}
          value={wire}
          onChange={event => {
            setWire(event.target.value);
          }}
        >
          {WIRES.map(format => (
            <option key={format}>{format}</option>
          ))}
        </select>
      </label>
      <label className="eai-mod-check">
        <input
          type="checkbox"
          disabled={pending}
          checked={keep}
          onChange={event => {
            setKeep(event.target.checked);
          }}
        />
        Keep when the notebook ends
      </label>
      <div className="eai-Panel-buttons">
        <button className="jp-mod-styled jp-mod-accept" type="submit" disabled={pending}>
          Start
        </button>
        {canRestart && (
          <button
            className="jp-mod-styled"
            type="button"
            disabled={pending}
            title="Start the group again and replay its set-up cells"
            onClick={() => void link.restart()}
          >
            Restart
          </button>
        )}
        <button
          className="jp-mod-styled"
          type="button"
          title="Put the code that does the same into a new cell"
          onClick={() => {
            insert(upCode(wish));
          }}
        >
          Insert code
        </button>
      </div>
    </form>
  );
}

function UpButtons({ link, state }: { link: KernelLink; state: GroupState }): JSX.Element {
  const { pending } = link.state;
  const isChanging = pending || state === 'starting' || state === 'stopping';
  return (
    <div className="eai-Panel-buttons">
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
        disabled={isChanging}
        title="Stop a running cell, end every rank, start the group again, replay the set-up cells"
        onClick={() => void link.restart()}
      >
        Restart
      </button>
      <button
        className="jp-mod-styled"
        disabled={isChanging}
        title="Stop a running cell and end every rank; their variables are lost"
        onClick={() => void link.shutDown()}
      >
        Shut down
      </button>
    </div>
  );
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
