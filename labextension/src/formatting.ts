/** Format numbers for people, as `eai_notebook/ledger/formatting.py` does. */
import { partStyle } from './parts';
import type { Measured, View } from './types';

const MANY = 100;

export function percent(share: number): string {
  return `${Math.round(100 * share)} %`;
}

/** Milliseconds with three digits. */
export function ms(value: number): string {
  const rounded = Number(value.toPrecision(3));
  const beforeThePoint = rounded === 0 ? 1 : 1 + Math.floor(Math.log10(Math.abs(rounded)));
  return `${rounded.toFixed(Math.min(2, Math.max(0, 3 - beforeThePoint)))} ms`;
}

/** A length of time in the largest units that a person would say: ms up to hours. */
export function duration(seconds: number): string {
  if (seconds > 0 && seconds < 1) {
    return ms(1000 * seconds);
  }
  if (seconds < 60) {
    return `${seconds < 10 ? Number(seconds.toPrecision(2)) : Math.round(seconds)} s`;
  }
  const whole = Math.round(seconds);
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  return hours > 0 ? `${hours} h ${minutes} min` : `${minutes} min ${whole % 60} s`;
}

/** A number of things, a small one with three digits. */
export function count(value: number): string {
  return value >= MANY ? Math.round(value).toLocaleString('en') : `${Number(value.toPrecision(3))}`;
}

/** A large number on an axis, short: 12k, 3.4M. */
export function thousands(value: number): string {
  const [by, unit] = value >= 1e6 ? [1e6, 'M'] : value >= 1e4 ? [1e3, 'k'] : [1, ''];
  return `${Number((value / by).toPrecision(3))}${unit}`;
}

export function amount(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB'];
  const thousands =
    bytes > 0 ? Math.min(units.length - 1, Math.max(0, Math.floor(Math.log10(bytes) / 3))) : 0;
  return `${Number((bytes / 1000 ** thousands).toPrecision(3))} ${units[thousands] ?? ''}`;
}

export function sum(values: readonly Measured[]): number {
  return values.reduce<number>((total, value) => total + (value ?? 0), 0);
}

export function ratesLine(view: View): string {
  const { run, rates } = view;
  const fragments = [`${run.steps} steps on ${run.size} rank${run.size === 1 ? '' : 's'}`];
  if (rates.step_ms !== null) {
    fragments.push(`${ms(rates.step_ms)} a step`);
  }
  if (rates.samples_per_s !== null) {
    fragments.push(`${count(rates.samples_per_s)} samples/s`);
  }
  if (rates.one_rank) {
    const { times, ideal_pct: ideal } = rates.one_rank;
    fragments.push(`${Number(times.toPrecision(3))}x one rank (${ideal.toFixed(0)} % of ideal)`);
  }
  if (rates.bytes_per_step !== null) {
    fragments.push(`${amount(rates.bytes_per_step)}/step`);
  }
  if (rates.bus_bytes_per_s !== null) {
    const link = rates.link_bytes_per_s;
    const of = link === null ? '' : ` of the link’s ${amount(link)}/s`;
    fragments.push(`bus ${amount(rates.bus_bytes_per_s)}/s${of}`);
  }
  if (rates.hidden_ms !== null && rates.hidden_ms > 0) {
    const exposed = view.means_ms[view.parts.indexOf('transfer')] ?? 0;
    fragments.push(`communication ${ms(exposed)} exposed, ${ms(rates.hidden_ms)} hidden`);
  }
  if (view.measuring_pct !== null) {
    fragments.push(`measuring ${Number(view.measuring_pct.toPrecision(2))} %`);
  }
  return fragments.join(' · ');
}

/** What waiting cost, over the whole run and all ranks; empty if nothing was measured. */
export function priceLine(view: View): string {
  const whole = view.price.rank_s;
  if (whole === null || whole === 0) {
    return '';
  }
  const [unit, seconds] =
    whole >= 3600
      ? (['rank-hours', 3600] as const)
      : whole >= 60
        ? (['rank-minutes', 60] as const)
        : (['rank-seconds', 1] as const);
  const fragments = view.parts.flatMap((part, place) => {
    const spent = view.price.parts_s[place] ?? null;
    const { wait } = partStyle(part);
    return wait === '' || spent === null ? [] : [`${wait} ${(spent / seconds).toFixed(1)}`];
  });
  if (fragments.length === 0) {
    return '';
  }
  return `price of waiting: ${fragments.join(', ')} of ${(whole / seconds).toFixed(1)} ${unit}`;
}

/** What is said of `cut` bars that are longer than the axis; empty if none is. */
export function cutNote(buckets: View['buckets'], cut: number, isShort: boolean): string {
  const longest = buckets.longest;
  if (cut === 0 || longest?.ms == null) {
    return '';
  }
  const text = `longest: step ${count(longest.step)}, ${duration(longest.ms / 1000)}`;
  return isShort ? `▲ ${text}` : `▲ ${cut} bar${cut === 1 ? '' : 's'} cut at the top; ${text}`;
}
