/** How numbers are told to a person; `eai_notebook/ledger/units.py` tells them the same. */
import type { Measured, View } from './model';

export function percent(share: number): string {
  return `${Math.round(100 * share)} %`;
}

/** Milliseconds with three digits. */
export function ms(value: number): string {
  const rounded = Number(value.toPrecision(3));
  const beforeThePoint = rounded === 0 ? 1 : 1 + Math.floor(Math.log10(Math.abs(rounded)));
  return `${rounded.toFixed(Math.min(2, Math.max(0, 3 - beforeThePoint)))} ms`;
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

/** The mean over what was measured. */
export function mean(values: readonly Measured[]): Measured {
  const known = values.filter(value => value !== null);
  return known.length > 0 ? sum(known) / known.length : null;
}

export function ratesLine(view: View): string {
  const { run, rates } = view;
  const told = [`${run.steps} steps on ${run.size} rank${run.size === 1 ? '' : 's'}`];
  if (rates.step_ms !== null) {
    told.push(`${ms(rates.step_ms)} a step`);
  }
  if (rates.samples_per_s !== null) {
    told.push(`${Math.round(rates.samples_per_s).toLocaleString('en')} samples/s`);
  }
  if (rates.bytes_per_step !== null) {
    told.push(`${amount(rates.bytes_per_step)}/step`);
  }
  if (rates.bus_bytes_per_s !== null) {
    told.push(`bus ${amount(rates.bus_bytes_per_s)}/s`);
  }
  if (view.measuring_pct !== null) {
    told.push(`measuring ${Number(view.measuring_pct.toPrecision(2))} %`);
  }
  return told.join(' · ');
}
