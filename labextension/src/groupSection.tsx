/** The group: its state in words, and the buttons that start, stop and end it. */
import { Dialog, showDialog } from '@jupyterlab/apputils';
import { type JSX, useEffect, useId, useState } from 'react';
import { WIRES } from './generated';
import { type Draft, hostProblem, rankProblem, shortage, upCode, wishOf } from './startMagic';
import type { KernelLink } from './kernelConnection';
import type { Group, GroupState, Room, View } from './types';
import type { Insert } from './panel';
import { duration } from './formatting';

interface Props {
  link: KernelLink;
  notebook: string;
  insert: Insert;
}

export function GroupSection({ link, notebook, insert }: Props): JSX.Element {
  const { group, notice, failed, pending } = link.state;
  const isDown = group === null || group.state === 'down' || group.state === 'lost';
  // The kernel reports a group only once it is being started.
  const awaited = isDown && pending;
  const state = awaited ? 'starting' : (group?.state ?? 'down');
  const isLoading = state === 'up' && group?.loading === true;
  return (
    <section className="eai-Panel-section" aria-label="Group">
      <h2 title={notebook}>Group · {notebook}</h2>
      <div
        className="eai-Panel-state"
        data-state={isLoading ? 'starting' : state}
        role="status"
        aria-live="polite"
      >
        <span className="eai-Panel-dot" />
        <span>
          {awaited && notice !== '' ? notice : inWords(state, group)}
          {(state === 'starting' || isLoading) && <Elapsed group={awaited ? null : group} />}
        </span>
      </div>
      <Said group={group} notice={awaited ? '' : notice} failed={failed} />
      {!link.state.besideCells && (
        <p className="eai-Panel-message">
          This kernel is older than ipykernel 7: while a cell runs only Stop is served, all else
          when it has ended.
        </p>
      )}
      {isDown && !awaited ? (
        <StartForm link={link} insert={insert} canRestart={group?.state === 'lost'} />
      ) : (
        <UpButtons link={link} state={state} />
      )}
    </section>
  );
}

/** A message beside the state; a failure is announced. */
function Said(props: { group: Group | null; notice: string; failed: boolean }): JSX.Element | null {
  const { group, notice, failed } = props;
  const isLost = group?.state === 'lost';
  const said = notice !== '' ? notice : isLost ? group.message : startingStep(group);
  if (said === '') {
    return null;
  }
  const isError = notice !== '' ? failed : isLost;
  return isError ? (
    <p className="eai-Panel-message eai-mod-error" role="alert">
      {said}
    </p>
  ) : (
    <p className="eai-Panel-message">{said}</p>
  );
}

/** What a start is at; the kernel's own word for "starting" says nothing more. */
function startingStep(group: Group | null): string {
  return group?.state === 'starting' ? (group.step ?? '') : '';
}

/** Seconds since a start began, and how long one usually takes. */
function Elapsed({ group }: { group: Group | null }): JSX.Element | null {
  const [began] = useState(() => Date.now() / 1000);
  const [now, setNow] = useState(() => Date.now() / 1000);
  useEffect(() => {
    const timer = window.setInterval(() => {
      setNow(Date.now() / 1000);
    }, 1000);
    return () => {
      window.clearInterval(timer);
    };
  }, []);
  const since = Math.max(0, now - (group?.since ?? began));
  const usual = group?.usual_s ?? null;
  return (
    <span className="eai-Panel-elapsed">
      , {duration(Math.floor(since))}
      {usual !== null && ` (usually ${duration(Math.round(usual))})`}
    </span>
  );
}

function StartForm(props: { link: KernelLink; insert: Insert; canRestart: boolean }): JSX.Element {
  const { link, insert, canRestart } = props;
  // The draft is the kernel link's: a start that fails brings the form back as it was.
  const [draft, setDraft] = useState<Draft>(link.state.draft);
  const id = useId();
  const change = (news: Partial<Draft>): void => {
    link.state.draft = { ...draft, ...news };
    setDraft(link.state.draft);
  };
  const [room, setRoom] = useState<Room | null>(null);
  const look = (): void => {
    // The kernel loads the extension for this: only for somebody who is about to start ranks.
    void link.room().then(setRoom, () => undefined);
  };
  const lacks = shortage(draft, room);
  const problems = { ranks: rankProblem(draft), hosts: hostProblem(draft) };
  const isWrong = problems.ranks !== '' || problems.hosts !== '';
  const named = draft.hosts.trim() !== '';
  return (
    <form
      className="eai-Panel-form"
      noValidate
      onSubmit={event => {
        event.preventDefault();
        if (!isWrong) {
          void link.start(wishOf(draft));
        }
      }}
    >
      <label>
        <span>Ranks</span>
        <input
          className="jp-mod-styled"
          type="text"
          inputMode="numeric"
          title={named ? 'The hosts say how many ranks there are' : 'Processes that train together'}
          disabled={named}
          aria-invalid={problems.ranks !== ''}
          aria-describedby={`${id}-ranks`}
          value={named ? 'by hosts' : draft.ranks}
          onChange={event => {
            change({ ranks: event.target.value });
            look();
          }}
        />
      </label>
      <Problem id={`${id}-ranks`} text={problems.ranks === '' ? lacks : problems.ranks} />
      <label className="eai-mod-wide">
        <span>Hosts</span>
        <input
          className="jp-mod-styled"
          type="text"
          placeholder="this machine"
          title="Other machines by ssh, each with its number of ranks: gpu1:8,gpu2:8"
          aria-invalid={problems.hosts !== ''}
          aria-describedby={`${id}-hosts`}
          value={draft.hosts}
          onChange={event => {
            change({ hosts: event.target.value });
          }}
        />
      </label>
      <Problem id={`${id}-hosts`} text={problems.hosts} />
      <details
        className="eai-Panel-advanced"
        open={draft.wire !== WIRES[0] || draft.keep ? true : undefined}
      >
        <summary>Advanced</summary>
        <label className="eai-mod-format">
          <span>Gradient format</span>
          <select
            className="jp-mod-styled"
            title="The number format in which ranks exchange gradients, where the optimizer does not say: fp16 and bf16 halve the bytes, int8 quarters them, int4 sends a seventh"
            value={draft.wire}
            onChange={event => {
              change({ wire: event.target.value });
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
            checked={draft.keep}
            onChange={event => {
              change({ keep: event.target.checked });
            }}
          />
          Keep when the notebook ends
        </label>
      </details>
      <div className="eai-Panel-buttons">
        <button className="jp-mod-styled jp-mod-accept" type="submit" disabled={isWrong}>
          Start
        </button>
        {canRestart && (
          <button
            className="jp-mod-styled"
            type="button"
            title="Start the group again and replay its set-up cells"
            onClick={() => void link.restart()}
          >
            Restart
          </button>
        )}
        <button
          className="jp-mod-styled"
          type="button"
          disabled={isWrong}
          title="Put the code that does the same into a new cell"
          onClick={() => {
            insert(upCode(wishOf(draft)));
          }}
        >
          Insert code
        </button>
      </div>
    </form>
  );
}

/** What is wrong with a field, below it; the place is there for screen readers all the time. */
function Problem({ id, text }: { id: string; text: string }): JSX.Element {
  return (
    <div id={id} className="eai-Panel-problem" role="status">
      {text}
    </div>
  );
}

function UpButtons({ link, state }: { link: KernelLink; state: GroupState }): JSX.Element {
  const { pending, view } = link.state;
  if (state === 'starting') {
    return (
      <div className="eai-Panel-buttons">
        <button
          className="jp-mod-styled"
          title="Give the start up; nothing of it is left running"
          onClick={() => void link.cancel()}
        >
          Cancel
        </button>
      </div>
    );
  }
  const isChanging = pending || state === 'stopping';
  const run = runningFor(state, view);
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
      <span className="eai-Panel-apart">
        <button
          className="jp-mod-styled"
          disabled={isChanging}
          title="Stop a running cell, end every rank, start the group again, replay the set-up cells"
          onClick={() => void confirmed('Restart', run).then(yes => (yes ? link.restart() : null))}
        >
          Restart
        </button>
        <button
          className="jp-mod-styled"
          disabled={isChanging}
          title="Stop a running cell and end every rank; their variables are lost"
          onClick={() =>
            void confirmed('Shut down', run).then(yes => (yes ? link.shutDown() : null))
          }
        >
          Shut down
        </button>
      </span>
    </div>
  );
}

/** What a button would end, in words; empty while no cell runs. */
function runningFor(state: GroupState, view: View | null): string {
  if (state !== 'busy') {
    return '';
  }
  if (view?.run.state !== 'running') {
    return 'a cell is running on every rank';
  }
  const { name, started, steps } = view.run;
  const age = duration(Math.max(0, Date.now() / 1000 - started));
  return `the run “${name}” has gone on for ${age} (${steps.toLocaleString('en')} steps)`;
}

/** Ask before work is lost; a group that runs nothing is ended without a question. */
async function confirmed(action: string, run: string): Promise<boolean> {
  if (run === '') {
    return true;
  }
  const answer = await showDialog({
    title: `${action} the group?`,
    body: `${run.charAt(0).toUpperCase()}${run.slice(1)}. ${action} ends it, and the variables of every rank are lost.`,
    buttons: [Dialog.cancelButton(), Dialog.warnButton({ label: action })],
    defaultButton: 0
  });
  return answer.button.accept;
}

/** How many ranks run the cell, where it is not all of them. */
function workingRanks(group: Group | null): string {
  const ranks = group?.ranks ?? [];
  const working = ranks.filter(rank => rank.state === 'busy').length;
  return working > 0 && working < ranks.length ? `${working} of ` : '';
}

function inWords(state: GroupState, group: Group | null): string {
  const size = group?.size ?? 0;
  const ranks = `${size} rank${size === 1 ? '' : 's'}`;
  switch (state) {
    case 'down':
      return 'No group is running';
    case 'starting':
      return size > 0 ? `Starting ${ranks}` : 'Starting';
    case 'up':
      return group?.loading === true ? `${ranks} loading TensorFlow` : `${ranks} ready`;
    case 'busy':
      return `${workingRanks(group)}${ranks} running a cell`;
    case 'stopping':
      return 'Stopping';
    case 'lost':
      return 'The group is lost';
  }
}
