/** How tall and how labelled an axis is; `eai_notebook/display/axis.py` does the same. */
import type { Range, View } from './types';
import { count, sum } from './formatting';
import { FEWEST_SLOTS, HEADROOM, LONG, USUAL_SHARE } from './generated';

/** Steps that an axis has room for when a few are looked at closely. */
const FEWEST_SHOWN = 8;

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

/** Round numbers that span `low` to `high`, about `count` of them. */
export function valueTicks(low: number, high: number, count: number): number[] {
  const raw = (high - low || Math.abs(high) || 1) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * ([1, 2, 5, 10].find(m => power * m >= raw) ?? 10);
  const [from, to] = [Math.floor(low / step + 1e-9), Math.ceil(high / step - 1e-9)];
  return Array.from({ length: to - from + 1 }, (_, i) =>
    Number(((from + i) * step).toPrecision(10))
  );
}

/** The first step of the axis, and how many steps it spans. */
export function stepSpan(buckets: View['buckets']): { first: number; span: number } {
  const first = buckets.step[0] ?? 0;
  return { first, span: Math.max((buckets.stop.at(-1) ?? first) - first, FEWEST_SLOTS) };
}

/** The first step that is shown, and how many there is room for; by default those of the run. */
export function shownSteps(
  buckets: View['buckets'],
  range: Range | null
): { first: number; span: number } {
  return range === null
    ? stepSpan(buckets)
    : { first: range.first, span: Math.max(range.stop - range.first, FEWEST_SHOWN) };
}

/** The positions of the buckets that have steps of the range; of all of them without one. */
export function within(buckets: View['buckets'], range: Range | null): number[] {
  return buckets.step.flatMap((start, position) =>
    range === null || (start < range.stop && (buckets.stop[position] ?? start + 1) > range.first)
      ? [position]
      : []
  );
}

/**
 * The true step numbers to label, about `number` of them, none too far to the right.
 *
 * The first label is written from its step on, and takes the share `room` of the axis.
 */
export function stepTicks(
  first: number,
  span: number,
  number: number,
  room = 0,
  apart = Math.max(1, Math.round(ticks(span, number)[1] ?? span))
): number[] {
  const [least, most] = [first + Math.max(0.5 * apart, room * span), first + 0.97 * span];
  const labels = [first];
  for (let step = apart * (Math.floor(first / apart) + 1); step <= most; step += apart) {
    if (step >= least) {
      labels.push(step);
    }
  }
  return labels;
}

/** How far labels of a time are apart, in seconds: round numbers on a clock. */
const ON_A_CLOCK_S = [
  1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400
] as const;

/** The times to label, in seconds. */
export function timeTicks(first: number, span: number, number: number, room = 0): number[] {
  const apart = ON_A_CLOCK_S.find(each => each >= span / number);
  return stepTicks(first, span, number, room, apart);
}

/** The share of an axis so many pixels wide that its first label takes, with half the next one. */
export function labelRoom(first: number, wide: number): number {
  return (7 * (5 + 1.5 * count(first).length)) / Math.max(1, wide);
}

/** How long a step is in each bucket: its parts and what was not measured. */
export function barLengths(buckets: View['buckets']): number[] {
  return buckets.ms.map((bar, place) => sum(bar) + (buckets.unmeasured_ms[place] ?? 0));
}
