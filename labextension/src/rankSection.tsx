/** The ranks: a card each, or a tile each where there are many; one of them in full. */
import { type JSX, type KeyboardEvent, useState } from 'react';
import { LogView } from './logView';
import { doing, vitalLines } from './rankStatus';
import type { KernelLink } from './kernelConnection';
import type { Group, GroupRank, View } from './types';

/** From this many ranks on, tiles with a number instead of cards. */
const MANY = 9;

interface Props {
  link: KernelLink;
  group: Group;
  view: View | null;
}

export function RankSection({ link, group, view }: Props): JSX.Element {
  const [chosen, setChosen] = useState<number | 'all' | null>(null);
  const [focused, setFocused] = useState(0);
  const many = group.ranks.length >= MANY;
  const isBusy = group.state === 'busy';
  const hasGpu = group.ranks.some(rank => (rank.vitals?.gpus.length ?? 0) > 0);
  const noGpu = hasGpu ? '' : (group.ranks.find(rank => rank.vitals)?.vitals?.no_gpu ?? '');
  const hosts = [...new Set(group.ranks.map(rank => rank.host))];
  const selected = group.ranks.find(rank => rank.rank === chosen);
  const tile = (rank: GroupRank): JSX.Element => {
    const { kind, words, letter } = doing(rank, group, view);
    const vitals = vitalLines(rank, isBusy, hasGpu);
    // A cell that has ended leaves no last line behind; the log has it.
    const line = isBusy ? (rank.line ?? '') : '';
    const on = rank.host === '' ? '' : ` on ${rank.host}`;
    const fragments = [`rank ${rank.rank}${on}: ${words}`, ...vitals, line];
    return (
      <li key={rank.rank}>
        <button
          className={many ? 'eai-Tile' : 'eai-Card'}
          data-state={kind}
          aria-expanded={chosen === rank.rank}
          aria-label={fragments.filter(part => part !== '').join(', ')}
          title={fragments.filter(part => part !== '').join('\n')}
          // One stop for the tab key; the arrows go from rank to rank.
          tabIndex={rank.rank === focused ? 0 : -1}
          onFocus={() => {
            setFocused(rank.rank);
          }}
          onClick={() => {
            setChosen(chosen === rank.rank ? null : rank.rank);
          }}
        >
          {many ? (
            <>
              {rank.rank}
              <span className="eai-Tile-letter">{letter}</span>
            </>
          ) : (
            <>
              <span className="eai-Card-head">
                <span className="eai-Panel-dot" />
                <span>rank {rank.rank}</span>
                <span className="eai-Panel-faint">{words}</span>
              </span>
              {vitals.map(vital => (
                <span key={vital} className="eai-Card-line eai-mod-vitals">
                  {vital}
                </span>
              ))}
              {line !== '' && <code className="eai-Card-line">{line}</code>}
            </>
          )}
        </button>
      </li>
    );
  };
  return (
    <section className="eai-Panel-section" aria-label="Ranks">
      <h2>
        Ranks · {group.ranks.length}
        {hosts.length > 1 ? ` on ${hosts.length} hosts` : hosts[0] ? ` on ${hosts[0]}` : ''}
        {noGpu === '' ? '' : ` · ${noGpu}`}
      </h2>
      <div onKeyDown={moveFocus}>
        {hosts.map(host => (
          <div key={host}>
            {hosts.length > 1 && <h3>{host}</h3>}
            <ul className={many ? 'eai-Tiles' : 'eai-Cards'}>
              {group.ranks.filter(rank => rank.host === host).map(tile)}
            </ul>
          </div>
        ))}
      </div>
      {group.ranks.length > 1 && (
        <button
          className="eai-Panel-link"
          aria-expanded={chosen === 'all'}
          onClick={() => {
            setChosen(chosen === 'all' ? null : 'all');
          }}
        >
          Log of all ranks
        </button>
      )}
      {chosen === 'all' && <LogView link={link} rank="all" />}
      {selected && (
        <LogView key={selected.rank} link={link} rank={selected.rank}>
          <div>
            <b>rank {selected.rank}</b> on {selected.host}, pid {selected.pid ?? 'unknown'}
          </div>
          {(many ? vitalLines(selected, isBusy, hasGpu) : []).map(line => (
            <div key={line}>{line}</div>
          ))}
        </LogView>
      )}
    </section>
  );
}

/** The arrow keys go to the rank before or after. */
function moveFocus(event: KeyboardEvent<HTMLDivElement>): void {
  const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (by === undefined) {
    return;
  }
  const tiles = [...event.currentTarget.querySelectorAll('button')];
  const at = tiles.findIndex(tile => tile === document.activeElement);
  tiles[Math.max(0, Math.min(tiles.length - 1, at + by))]?.focus();
  event.preventDefault();
}
