/** Two runs side by side: what changed, part by part, and how sure that is. */
import type { JSX } from 'react';
import type { Change, Comparison, Measured, View } from './types';
import { background } from './partPattern';
import { learnParts } from './parts';
import { short } from './training';
import { count, ms, sum } from './formatting';

export function ComparisonTable({ comparison }: { comparison: Comparison }): JSX.Element {
  const { before, after, parts, step, sentence, differs } = comparison;
  learnParts(after);
  return (
    <div className="eai-Comparison" role="region" aria-label="Comparison">
      <p className="eai-Comparison-sentence">{sentence.replaceAll('`', '')}</p>
      {differs.length === 0 && (
        <p className="eai-Panel-faint">The two records name no difference in settings.</p>
      )}
      <table>
        <thead>
          <tr>
            <th scope="col">a step</th>
            <th scope="col">{heading('A', before)}</th>
            <th scope="col">{heading('B', after)}</th>
            <th scope="col">B − A</th>
          </tr>
        </thead>
        <tbody>
          {before.parts.map((part, place) => (
            <tr key={part}>
              <th scope="row">
                <span className="eai-Chart-swatch" style={{ background: background(part) }} />
                {part}
              </th>
              <td>{shown(parts[place]?.before_ms ?? null)}</td>
              <td>{shown(parts[place]?.after_ms ?? null)}</td>
              <ChangeCell change={parts[place]} />
            </tr>
          ))}
          <tr className="eai-mod-whole">
            <th scope="row">step</th>
            <td>{shown(step.before_ms)}</td>
            <td>{shown(step.after_ms)}</td>
            <ChangeCell change={step} />
          </tr>
          <tr>
            <th scope="row">samples/s</th>
            <td>{counted(before.rates.samples_per_s)}</td>
            <td>{counted(after.rates.samples_per_s)}</td>
            <td>{ratio(before.rates.samples_per_s, after.rates.samples_per_s)}</td>
          </tr>
          {reached(before, after).map(name => (
            <tr key={name}>
              <th scope="row">{name}</th>
              <td>{short(before.training?.values[name] ?? null)}</td>
              <td>{short(after.training?.values[name] ?? null)}</td>
              <td>{difference(before.training?.values[name], after.training?.values[name])}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {[before, after].map((view, place) => (
        <div key={place} className="eai-Comparison-run">
          <b>{heading(place === 0 ? 'A' : 'B', view)}</b>
          <Bar view={view} longest={Math.max(whole(before), whole(after), 1e-9)} />
          {view.verdict.sentence.replaceAll('`', '')}
        </div>
      ))}
    </div>
  );
}

/** Two runs of one name differ by their letter and the time they began. */
function heading(letter: string, view: View): string {
  const time = new Date(1000 * view.run.started).toLocaleTimeString([], {
    hour: '2-digit',
    minute: '2-digit'
  });
  return `${letter} · ${view.run.name} ${time}`;
}

function Bar({ view, longest }: { view: View; longest: number }): JSX.Element {
  return (
    <div className="eai-Comparison-bar" aria-hidden="true">
      {view.parts.map((part, place) => (
        <span
          key={part}
          style={{
            width: `${(100 * (partMean(view, place) ?? 0)) / longest}%`,
            background: background(part)
          }}
        />
      ))}
    </div>
  );
}

function ChangeCell({ change }: { change: Change | undefined }): JSX.Element {
  if (typeof change?.delta_ms !== 'number') {
    return <td>not measured</td>;
  }
  const sign = change.delta_ms < 0 ? '−' : '+';
  const interval =
    change.low_ms === null || change.high_ms === null
      ? 'too few steps for an interval'
      : `99 % interval ${ms(change.low_ms)} to ${ms(change.high_ms)}`;
  return (
    <td title={interval} className={change.sure ? 'eai-mod-sure' : 'eai-Panel-faint'}>
      {sign}
      {change.high_ms === null
        ? ms(Math.abs(change.delta_ms))
        : inOneUnit(ms(Math.abs(change.delta_ms)), ms(change.high_ms - change.delta_ms))}
    </td>
  );
}

/** A length and its uncertainty, with the unit once where both have the same. */
function inOneUnit(length: string, uncertainty: string): string {
  const [figure = '', unit] = length.split(' ');
  return uncertainty.endsWith(` ${unit ?? ''}`)
    ? `${figure} ± ${uncertainty}`
    : `${length} ± ${uncertainty}`;
}

/** The metrics that either run has. */
function reached(before: View, after: View): string[] {
  const names = [before, after].flatMap(view => Object.keys(view.training?.values ?? {}));
  return [...new Set(names)];
}

function difference(before: Measured | undefined, after: Measured | undefined): string {
  if (before == null || after == null) {
    return '';
  }
  return `${after < before ? '−' : '+'}${short(Math.abs(after - before))}`;
}

function partMean(view: View, place: number): Measured {
  return view.means_ms[place] ?? null;
}

function whole(view: View): number {
  return sum(view.parts.map((_, place) => partMean(view, place)));
}

function shown(value: Measured): string {
  return value === null ? '–' : ms(value);
}

function counted(value: Measured): string {
  return value === null ? '–' : count(value);
}

function ratio(before: Measured, after: Measured): string {
  return before === null || after === null || before === 0 ? '' : `${(after / before).toFixed(2)}x`;
}
