/**
 * The chart of a run: verdict, training, legend, parts over the steps, a bar a rank, rates.
 *
 * Plain DOM and canvases, so that the panel, the tab and the notebook's output share it.
 * Text is HTML: it keeps its size, follows the theme and can be selected; only bars
 * are painted, and only once per animation frame however often the run reports.
 */
import { HeatMap } from './heatMap';
import type { Range, Section, View } from './types';
import { colour, learnParts, partStyle } from './parts';
import { element } from './drawing';
import { MetricCharts } from './metricCharts';
import { RankControls } from './rankControls';
import { rankRows, type Row } from './rankRows';
import { RanksPlot } from './ranksPlot';
import { RankTable } from './table';
import { StepsPlot } from './stepsPlot';
import { background } from './partPattern';
import { TrainingSection } from './training';
import { Tooltip } from './tooltip';
import { VitalCharts } from './vitalCharts';
import { count, duration, ms, percent, priceLine, ratesLine, sum } from './formatting';

/** Below this width numbers leave no room for more. */
const WIDE = 420;

/** Asks for the steps of a range, of a run by its id, in detail. */
export type AskSection = (run: string, range: Range) => Promise<Section>;

export class Chart {
  /** A large chart has taller plots and takes all the width there is. */
  constructor(host: HTMLElement, isLarge = false) {
    this._root = element('figure', `eai-Chart${isLarge ? ' eai-mod-large' : ''}`);
    this._sentence = element('div', 'eai-Chart-sentence');
    this._sentence.setAttribute('role', 'status');
    this._evidence = element('div', 'eai-Chart-evidence');
    this._advice = element('div', 'eai-Chart-advice');
    this._verdict = element(
      'div',
      'eai-Chart-verdict',
      this._sentence,
      this._advice,
      this._evidence
    );
    this._legend = element('div', 'eai-Chart-legend');
    this._rates = element('div', 'eai-Chart-rates');
    this._price = element('div', 'eai-Chart-rates');
    this._training = new TrainingSection(!isLarge);
    this._metrics = isLarge
      ? new MetricCharts(range => {
          this._zoom(range);
        })
      : null;
    this._vitals = isLarge ? new VitalCharts() : null;
    this._steps = new StepsPlot(this._tooltip, range => {
      this._zoom(range);
    });
    this._root.append(
      this._verdict,
      this._training.node,
      ...(this._metrics === null ? [] : [this._metrics.node]),
      this._legend,
      this._steps.node,
      this._controls.node,
      this._ranks.node,
      this._heat.node,
      this._rates,
      this._price,
      ...(this._vitals === null ? [] : [this._vitals.node]),
      this._table.node
    );
    host.append(this._root);
    this._ranks.canvas.addEventListener('pointermove', event => {
      this._reportRank(event.offsetX, event.offsetY);
    });
    this._ranks.canvas.addEventListener('pointerleave', () => {
      this._tooltip.hide();
    });
    this._observer = new ResizeObserver(() => {
      this._schedule();
    });
    this._observer.observe(this._root);
  }

  /** Whom to ask for a closer look at some steps; without, a zoom shows the same bars larger. */
  askSection: AskSection | null = null;

  /** Show a run; drawn in the next animation frame, the latest view wins. */
  draw(view: View): void {
    learnParts(view);
    if (view.run.id !== this._view?.run.id) {
      this._range = this._section = null;
    }
    this._view = view;
    this._schedule();
  }

  dispose(): void {
    this._observer.disconnect();
    cancelAnimationFrame(this._frame);
    window.clearTimeout(this._timer);
    this._root.remove();
  }

  /** Show some steps, or all of them again. */
  private _zoom(range: Range | null): void {
    const run = this._view?.run.id;
    this._range = range;
    this._section = null;
    this._schedule();
    if (range === null || run === undefined || this.askSection === null) {
      return;
    }
    this.askSection(run, range).then(
      section => {
        if (this._range === range) {
          this._section = section;
          this._schedule();
        }
      },
      (error: unknown) => {
        // A busy old kernel, or a run without a record: the bars that are there stay.
        console.debug('eai_notebook: no closer look', error);
      }
    );
  }

  private _schedule(later = 0): void {
    if (later > 0) {
      window.clearTimeout(this._timer);
      this._timer = window.setTimeout(() => {
        this._schedule();
      }, later);
      return;
    }
    if (this._frame === 0 && this._view !== null) {
      this._frame = requestAnimationFrame(() => {
        this._frame = 0;
        this._paint();
      });
    }
  }

  private _paint(): void {
    const view = this._view;
    if (view === null || this._root.clientWidth === 0) {
      return;
    }
    const shown = this._shown(view);
    this._root.setAttribute('aria-label', `Ledger of ${view.run.name}: ${view.verdict.sentence}`);
    this._root.dataset.steps = String(view.run.steps);
    this._root.classList.toggle('eai-mod-narrow', this._isNarrow);
    this._verdict.style.borderLeftColor = colour(view.verdict.kind);
    const waits = notYet(view);
    this._root.classList.toggle('eai-mod-waiting', waits !== '');
    const sentence = waits === '' ? view.verdict.sentence : waits;
    if (this._said !== sentence) {
      // A live region speaks whenever it is filled anew.
      this._said = sentence;
      this._sentence.replaceChildren(...withCode(sentence));
    }
    const evidence = waits === '' ? view.verdict.evidence.join(' · ') : '';
    this._evidence.replaceChildren(...withCode(evidence));
    this._advice.replaceChildren(...withCode(waits === '' ? adviceOf(view.verdict) : ''));
    this._rates.textContent = ratesLine(view);
    this._price.textContent = waits === '' ? priceLine(view) : '';
    this._training.draw(view);
    this._metrics?.draw(view, this._range);
    this._vitals?.draw(view);
    // Without a closer look its columns would not stand below their bars.
    const isWide = view.run.hosts.length > 1 && this._root.clientWidth >= WIDE;
    const { arrangement } = this._controls;
    const rows = rankRows(shown, arrangement, isWide);
    this._heat.draw(shown, rows, this._range);
    this._heat.node.hidden ||= this._range !== null && this._section === null;
    this._fillLegend(shown);
    this._steps.draw(shown, this._range, this._isNarrow, this._rangeWords(view));
    this._controls.draw(shown);
    this._ranks.draw(shown, rows, isWide || arrangement.isFolded);
    this._table.draw(view);
    this._steps.report();
    if (waits !== '') {
      this._schedule(1000);
    }
  }

  /** The view with the numbers of the steps that are shown, where those are known. */
  private _shown(view: View): View {
    const section = this._section;
    if (section === null) {
      return view;
    }
    const { buckets, heat, means_ms } = section;
    const now = new Map(view.ranks.map(rank => [rank.rank, rank.now]));
    const ranks = section.ranks.map(rank => ({
      ...rank,
      hidden_ms: null,
      now: now.get(rank.rank) ?? null
    }));
    return { ...view, buckets, heat, means_ms, ranks, waiting_ms: null };
  }

  private _rangeWords(view: View): string {
    if (this._range === null) {
      return '';
    }
    const { first, stop } = this._range;
    const steps =
      stop - first === 1 ? `step ${count(first)}` : `steps ${count(first)}–${count(stop - 1)}`;
    const words = `${steps} of ${count(view.run.steps)}`;
    return this._section === null ? `${words}; legend and ranks: whole run` : words;
  }

  /** The means over all ranks. */
  private _fillLegend(view: View): void {
    const means = view.means_ms;
    const whole = sum(means);
    const entries = view.parts.map((part, position) => {
      const value = means[position] ?? null;
      const share = percent((value ?? 0) / (whole || 1));
      const known = this._isNarrow ? share : `${ms(value ?? 0)} · ${share}${waitingOf(view, part)}`;
      const figure = value === null || whole === 0 ? missing(view, part) : known;
      const swatch = element('span', 'eai-Chart-swatch');
      swatch.style.background = background(part);
      const entry = element('span', 'eai-Chart-entry', swatch, part, faint(figure));
      entry.title = partStyle(part).meaning;
      return entry;
    });
    if (view.buckets.unmeasured_ms.some(length => (length ?? 0) > 0)) {
      const swatch = element('span', 'eai-Chart-swatch eai-mod-unmeasured');
      const entry = element('span', 'eai-Chart-entry', swatch, 'not measured');
      entry.title =
        'steps of which only the length is known: the first one, which compiles, and strikingly long ones';
      entries.push(entry);
    }
    this._legend.replaceChildren(...entries);
  }

  private _reportRank(x: number, y: number): void {
    const view = this._view === null ? null : this._shown(this._view);
    const row = this._ranks.rowAt(y);
    if (view === null || row === undefined) {
      this._tooltip.hide();
      return;
    }
    // The box stands in the plot of the steps, above the ranks.
    const up = this._steps.canvas.getBoundingClientRect().top;
    const below = this._ranks.canvas.getBoundingClientRect().top - up + y + 12;
    this._tooltip.show(view, titleOf(view, row), row.ms, null, x, below);
  }

  private get _isNarrow(): boolean {
    return this._root.clientWidth < WIDE;
  }

  private _view: View | null = null;
  /** The steps that are shown; null is all of them. */
  private _range: Range | null = null;
  /** What is known of them in detail. */
  private _section: Section | null = null;
  private _said = '';
  private _frame = 0;
  private _timer = 0;
  private readonly _training: TrainingSection;
  private readonly _metrics: MetricCharts | null;
  private readonly _vitals: VitalCharts | null;
  private readonly _tooltip = new Tooltip();
  private readonly _table = new RankTable();
  private readonly _controls = new RankControls(() => {
    this._schedule();
  });
  private readonly _ranks = new RanksPlot(host => {
    this._controls.toggle(host);
  });
  private readonly _heat = new HeatMap();
  private readonly _steps: StepsPlot;
  private readonly _root: HTMLElement;
  private readonly _verdict: HTMLElement;
  private readonly _sentence: HTMLElement;
  private readonly _evidence: HTMLElement;
  private readonly _advice: HTMLElement;
  private readonly _legend: HTMLElement;
  private readonly _rates: HTMLElement;
  private readonly _price: HTMLElement;
  private readonly _observer: ResizeObserver;
}

function titleOf(view: View, row: Row): string {
  const rank = view.ranks[row.members[0] ?? 0];
  return row.isHost
    ? `mean of ${row.members.length} ranks on ${row.folds}`
    : `rank ${rank?.rank ?? ''} on ${rank?.host ?? ''}`;
}

/** What a run that goes on still waits for before anything can be said of it; else empty. */
function notYet(view: View): string {
  const measured = view.ranks.some(rank => rank.ms.some(part => part !== null));
  if (view.run.state !== 'running' || measured) {
    return '';
  }
  const age = duration(Math.max(0, Math.floor(Date.now() / 1000 - view.run.started)));
  return view.run.steps > 1
    ? `measuring the first steps, ${age}`
    : `compiling the first step, ${age}`;
}

function faint(text: string): HTMLElement {
  return element('span', 'eai-Chart-faint', text);
}

/** What can be done about what the verdict found, and what that would gain. */
function adviceOf(verdict: View['verdict']): string {
  if (verdict.tries.length === 0) {
    return '';
  }
  return `Try: ${verdict.tries.join('; ')}${verdict.gain === '' ? '' : ` (${verdict.gain})`}`;
}

/** Why a part has no length. */
function missing(view: View, part: string): string {
  const alone = view.run.size === 1 && partStyle(part).needs_peers;
  return alone ? 'one rank' : 'not measured';
}

/** The verdict's number beside the mean over all ranks, which counts the late one in. */
function waitingOf(view: View, part: string): string {
  const waits = part === 'wait_peer' && view.waiting_ms !== null && view.waiting_ms > 0;
  return waits ? ` (${ms(view.waiting_ms ?? 0)} on a rank that waits)` : '';
}

/** Text in which what stands between backticks is code. */
function withCode(text: string): (HTMLElement | string)[] {
  return text.split('`').map((piece, i) => (i % 2 === 1 ? element('code', '', piece) : piece));
}
