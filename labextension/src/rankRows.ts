/** The rows of the charts of ranks: in the order that is asked for, hosts folded or not. */
import type { Measured, Rank, View } from './types';
import { sum } from './formatting';
import { partStyle } from './parts';

export type Order = 'rank' | 'slowest' | 'waiting';

/** How the ranks are shown. */
export interface Arrangement {
  order: Order;
  /** Whether the ranks of a host are one row, but for the hosts that are `open`. */
  isFolded: boolean;
  open: ReadonlySet<string>;
}

/** One row: a rank, or all ranks of a host. */
export interface Row {
  name: string;
  /** The name with what belongs to it where there is room. */
  label: string;
  /** The host whose ranks a click shows or hides; empty where none. */
  folds: string;
  isHost: boolean;
  /** Whether it is of the rank that the verdict names. */
  isNamed: boolean;
  ms: Measured[];
  /** The positions of its ranks in the view. */
  members: number[];
}

/** Ranks in their own order, nothing folded: what the static picture shows. */
export const AS_THEY_ARE: Arrangement = { order: 'rank', isFolded: false, open: new Set() };

export function rankRows(view: View, arrangement: Arrangement, hasHosts: boolean): Row[] {
  const rows = arrangement.isFolded
    ? view.run.hosts.flatMap(host => hostRows(view, host, arrangement))
    : view.ranks.map((rank, position) => rankRow(view, rank, position, hasHosts));
  return arrangement.isFolded ? rows : sorted(rows, view, arrangement.order);
}

/** A host's row and, where it is open, those of its ranks below it. */
function hostRows(view: View, host: string, { order, open }: Arrangement): Row[] {
  const members = view.ranks.flatMap((rank, position) => (rank.host === host ? [position] : []));
  if (members.length === 0) {
    return [];
  }
  const isOpen = open.has(host);
  const row: Row = {
    name: host,
    label: `${isOpen ? '▾' : '▸'} ${host} · ${members.length}`,
    folds: host,
    isHost: true,
    isNamed: members.some(position => view.ranks[position]?.rank === view.verdict.rank),
    ms: view.parts.map((_, part) =>
      mean(members.map(position => view.ranks[position]?.ms[part] ?? null))
    ),
    members
  };
  const ranks = view.ranks.flatMap((rank, position) =>
    isOpen && rank.host === host ? [rankRow(view, rank, position, false)] : []
  );
  return [row, ...sorted(ranks, view, order)];
}

function rankRow(view: View, rank: Rank, position: number, hasHost: boolean): Row {
  const name = `rank ${rank.rank}`;
  return {
    name,
    label: `${name}${hasHost ? ` · ${rank.host}` : ''}`,
    folds: '',
    isHost: false,
    isNamed: rank.rank === view.verdict.rank,
    ms: rank.ms,
    members: [position]
  };
}

function sorted(rows: Row[], view: View, order: Order): Row[] {
  if (order === 'rank') {
    return rows;
  }
  const waiting = view.parts.indexOf('wait_peer');
  // What a rank spends on itself is what makes the others wait.
  const key = ({ ms }: Row): number =>
    order === 'waiting'
      ? (ms[waiting] ?? -1)
      : sum(ms.filter((_, part) => !partStyle(view.parts[part] ?? '').needs_peers));
  return [...rows].sort((one, two) => key(two) - key(one));
}

function mean(values: readonly Measured[]): Measured {
  const known = values.filter(value => value !== null);
  return known.length === 0 ? null : sum(known) / known.length;
}

/** The cells of the rows: of a host those of its slowest rank, which the others wait for. */
export function rowCells(rows: readonly Row[], cells: Uint8Array, columns: number): Uint8Array {
  const found = new Uint8Array(rows.length * columns);
  rows.forEach(({ members }, row) => {
    for (let column = 0; column < columns; column++) {
      found[row * columns + column] = Math.max(
        ...members.map(position => cells[position * columns + column] ?? 0)
      );
    }
  });
  return found;
}
