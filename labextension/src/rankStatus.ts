/** What a rank is doing, in words and as the kind that gives its mark and colour. */
import type { PartStyle } from './generated';
import type { Group, GroupRank, View } from './types';
import { amount } from './formatting';
import { partStyle } from './parts';

export interface Doing {
  kind: PartStyle['activity'] | 'idle' | 'dead' | 'changing';
  words: string;
  /** One letter, so that colour is not the only sign on a small tile. */
  letter: string;
}

const BY_STATE: Readonly<Record<string, Doing>> = {
  up: { kind: 'idle', words: 'idle', letter: '' },
  idle: { kind: 'idle', words: 'idle', letter: '' },
  loading: { kind: 'changing', words: 'loading TensorFlow', letter: '…' },
  busy: { kind: 'running', words: 'running', letter: 'r' },
  dead: { kind: 'dead', words: 'dead', letter: '✕' },
  failed: { kind: 'dead', words: 'failed', letter: '✕' },
  lost: { kind: 'dead', words: 'gone', letter: '✕' }
};

export function doing(rank: GroupRank, group: Group, view: View | null): Doing {
  if (rank.state === 'busy' && group.state === 'busy' && view?.run.state === 'running') {
    const now = view.ranks.find(one => one.rank === rank.rank)?.now;
    if (now) {
      const { activity, doing: words, letter } = partStyle(now.part);
      const known = { kind: activity, words, letter };
      return now.for === null ? known : { ...known, words: `waiting for rank ${now.for}` };
    }
  }
  return BY_STATE[rank.state] ?? { kind: 'changing', words: rank.state, letter: '…' };
}

/** CPU and memory, then every GPU or why there is none; what is of a cell only while one runs. */
export function vitalLines(rank: GroupRank, isBusy: boolean, tellsNoGpu: boolean): string[] {
  const { vitals } = rank;
  if (!vitals) {
    return [];
  }
  const fragments = [];
  if (vitals.cpu_pct !== null) {
    fragments.push(`CPU ${Math.round(vitals.cpu_pct)} %`);
  }
  if (vitals.memory_bytes !== null) {
    fragments.push(amount(vitals.memory_bytes));
  }
  if (isBusy && typeof vitals.queue === 'number') {
    fragments.push(`${vitals.queue} batch${vitals.queue === 1 ? '' : 'es'} ready`);
  }
  const gpus = vitals.gpus.map(gpu => {
    const busy = gpu.busy_pct === null ? '' : ` ${Math.round(gpu.busy_pct)} %`;
    const memory =
      gpu.used_bytes === null || gpu.total_bytes === null
        ? ''
        : ` · ${amount(gpu.used_bytes)} of ${amount(gpu.total_bytes)}`;
    return `GPU ${gpu.index}${busy}${memory}`;
  });
  const none = tellsNoGpu ? [vitals.no_gpu] : [];
  return [fragments.join(' · '), ...(gpus.length > 0 ? gpus : none)].filter(line => line !== '');
}
