/** The code that does what a button does, so that the panel hides nothing. */
import { MOST_RANKS, WIRES } from './generated';
import { amount } from './formatting';
import type { Room } from './types';

/** What a person asks for in the form that starts a group. */
export interface Wish {
  ranks: number;
  /** As `--hosts` takes them; empty for this machine. */
  hosts: string;
  /** What gradients travel in where the optimizer does not say. */
  wire: string;
  /** Whether the group outlives the notebook's kernel. */
  keep: boolean;
}

/** What the form holds, as it was typed. */
export interface Draft {
  ranks: string;
  hosts: string;
  wire: string;
  keep: boolean;
}

/** What is wrong with the number of ranks as it was typed; empty if nothing is. */
export function rankProblem(draft: Draft): string {
  if (draft.hosts.trim() !== '') {
    return '';
  }
  const typed = draft.ranks.trim();
  if (typed === '') {
    return `Enter a number of ranks, 1 to ${MOST_RANKS}.`;
  }
  const ranks = Number(typed);
  if (!/^\d+$/.test(typed) || ranks < 1 || ranks > MOST_RANKS) {
    return `${typed} is not a number of ranks: enter a whole number, 1 to ${MOST_RANKS}.`;
  }
  return '';
}

/** What is wrong with the hosts as they were typed; empty if nothing is. */
export function hostProblem(draft: Draft): string {
  const hosts = draft.hosts.trim();
  const isFile = hosts.includes('/');
  const wrong = isFile
    ? undefined
    : hosts.split(',').find(host => hosts !== '' && !/^[^\s,:]+(:[1-9]\d*)?$/.test(host.trim()));
  return wrong === undefined
    ? ''
    : `“${wrong.trim()}” is not a host with its ranks: write gpu1:8,gpu2:8.`;
}

/** What so many ranks on the kernel's machine lack; empty if nothing, or if it is not known. */
export function shortage(draft: Draft, room: Room | null): string {
  const ranks = Number(draft.ranks.trim());
  if (room === null || draft.hosts.trim() !== '' || rankProblem(draft) !== '') {
    return '';
  }
  const { cores, free_bytes: free, rank_bytes: each } = room;
  const lacks: string[] = [];
  if (ranks > cores) {
    lacks.push(`they share ${cores} core${cores === 1 ? '' : 's'}, and none is quicker for it`);
  }
  if (free !== null && ranks * each > free) {
    lacks.push(`they need about ${amount(ranks * each)} of memory, and ${amount(free)} are free`);
  }
  return lacks.length === 0 ? '' : `${ranks} rank${ranks === 1 ? '' : 's'}: ${lacks.join('; ')}.`;
}

/** The draft as a wish; only for a draft without problems. */
export function wishOf(draft: Draft): Wish {
  return { ...draft, ranks: Number(draft.ranks) };
}

export function upCode(wish: Wish): string {
  const hosts = wish.hosts.trim();
  const where = hosts === '' ? `-n ${wish.ranks}` : `--hosts ${quoted(hosts)}`;
  const wire = wish.wire === WIRES[0] ? '' : ` --wire ${wish.wire}`;
  return `%load_ext eai_notebook\n%eai up ${where}${wire}${wish.keep ? ' --keep' : ''}`;
}

/** A word of the magic's line, which is split as a shell does it. */
function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'"'"'`)}'`;
}
