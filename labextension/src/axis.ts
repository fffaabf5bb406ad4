/** How tall and how labelled an axis is; `eai_notebook/display/axis.py` does the same. */
import type { View } from './types';
import { sum } from './formatting';
import { FEWEST_SLOTS, HEADROOM, LONG, USUAL_SHARE } from './generated';

/**
 * The top of an axis on which most bars can be read.
 *
 * The first step compiles and may be a thousand times longer than the rest: such bars are
 * cut at the top and marked, instead of flattening all others.
 */
export function robustTop(lengths: readonly number[]): number {
  const ordered = [...lengths].sort((a, b) => a - b);
  const longest = ordered.at(-1) ?? 1;
  const ninth = Math.floor(USUAL_SHARE * (ordered.length - 1));
  const usual = ordered[Math.max(0, Math.min(ordered.length - 2, ninth))] ?? longest;
  return (longest <= LONG * usual ? longest : HEADROOM * usual) || 1;
}

/** Round numbers from 0 to `top`, about `count` of them. */
export function ticks(top: number, count: number): number[] {
  const raw = top / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * ([1, 2, 5, 10].find(m => power * m >= raw) ?? 10);
  return Array.from({ length: Math.floor(top / step + 1e-9) + 1 }, (_, i) =>
    Number((step * i).toPrecision(10))
  );
}

/** The first step of the axis, and how many steps it spans. */
export function stepSpan(buckets: View['buckets']): { first: number; span: number } {
  const first = buckets.step[0] ?? 0;
  return { first, span: Math.max((buckets.stop.at(-1) ?? first) - first, FEWEST_SLOTS) };
}

/** The true step numbers to label, about `count` of them, none too far to the right. */
export function stepTicks(first: number, span: number, count: number): number[] {
  const apart = Math.max(1, Math.round(ticks(span, count)[1] ?? span));
  const [least, most] = [first + 0.5 * apart, first + 0.97 * span];
  const labels = [first];
  for (let step = apart * (Math.floor(first / apart) + 1); step <= most; step += apart) {
    if (step >= least) {
      labels.push(step);
    }
  }
  return labels;
}

/** How long a step is in each bucket: its parts and what was not measured. */
export function barLengths(buckets: View['buckets']): number[] {
  return buckets.ms.map((bar, place) => sum(bar) + (buckets.unmeasured_ms[place] ?? 0));
}
