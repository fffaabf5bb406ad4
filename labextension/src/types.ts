/** What the kernel sends: the mirror of `eai_notebook/ledger/view_model.py` and of the group's state. */

import type { PartStyle } from './generated';

/** A number, or null where nothing was measured. */
export type Measured = number | null;

export interface Rank {
  rank: number;
  host: string;
  /** Mean milliseconds of each part over the typical steps, in the order of `View.parts`. */
  ms: Measured[];
  hidden_ms: Measured;
  /** What the rank mostly did in its latest steps, while the run goes on. */
  now: { part: string; for: number | null } | null;
}

export interface View {
  schema: number;
  run: {
    id: string;
    name: string;
    state: string;
    /** Seconds since the epoch. */
    started: number;
    /** Seconds since the epoch; null while it goes on. */
    ended: number | null;
    size: number;
    hosts: string[];
    steps: number;
  };
  parts: string[];
  /** How to draw the parts of other packages; missing in outputs of older versions. */
  added_parts?: Record<string, PartStyle>;
  /** The means over the ranks of each part: what every display shows of a run. */
  means_ms: Measured[];
  /** The waiting of a rank that waits, where it is known. */
  waiting_ms: Measured;
  buckets: {
    /** Measured steps in each bucket. */
    width: number;
    /** First step of each bucket. */
    step: number[];
    /** The step after the last one of each bucket. */
    stop: number[];
    /** Mean milliseconds over ranks of each part, for each bucket. */
    ms: Measured[][];
    /** Mean milliseconds that no part explains, for each bucket. */
    unmeasured_ms: Measured[];
    /** Samples of all ranks; missing in outputs of older versions. */
    samples_per_s?: Measured[];
    /** The longest step of the run and its length; null before any step. */
    longest: { step: number; ms: Measured } | null;
  };
  ranks: Rank[];
  /** How long each rank was busy by itself in each stretch of steps. */
  heat: {
    /** Steps in each column. */
    width: number;
    columns: number;
    /** What the bytes 1 and 255 stand for; 0 is "not measured". */
    low_ms: Measured;
    high_ms: Measured;
    /** One byte a cell, row by row, base64. */
    cells: string;
  };
  /** Seconds of rank time over the whole run, in all and in each part. */
  price: { rank_s: Measured; parts_s: Measured[]; unmeasured_s: Measured };
  rates: {
    samples_per_s: Measured;
    step_ms: Measured;
    bytes_per_step: Measured;
    bus_bytes_per_s: Measured;
    /** What a link between hosts carries each way, measured when the group started. */
    link_bytes_per_s: Measured;
    /** Communication that went on while computing, a step. */
    hidden_ms: Measured;
    /** Against one rank with the same model, where a run of one is recorded. */
    one_rank?: { times: number; ideal_pct: number; samples_per_s: number } | null;
  };
  /** Loss and metrics; null without any. */
  training: {
    /** From 1. */
    epoch: number;
    epochs: number | null;
    /** Steps of all epochs. */
    steps: number | null;
    /** The latest, a mean over ranks. */
    values: Record<string, Measured>;
    curves: Record<string, { step: number[]; value: Measured[] }>;
    /** The metrics of all ranks at each epoch's end. */
    ends: { epoch: number; step: number; values: Record<string, Measured> }[];
  } | null;
  /** How the ranks were over time; null without any, missing in outputs of older versions. */
  vitals?: {
    /** Seconds between two values. */
    width_s: number;
    /** The lines of each quantity that was measured. */
    lines: Record<string, { label: string; values: Measured[] }[]>;
  } | null;
  verdict: {
    kind: string;
    sentence: string;
    evidence: string[];
    rank: number | null;
    /** What can be done about it, the most promising first. */
    tries: string[];
    /** What a step would take without it, in words. */
    gain: string;
  };
  measuring_pct: Measured;
  /** How a trial of a remedy ended, in words; missing or null without one. */
  trial?: string | null;
}

/** Steps from the first up to but without `stop`. */
export interface Range {
  first: number;
  stop: number;
}

/** Some steps of a run in detail: the fields are those of a view, of these steps alone. */
export interface Section extends Range {
  means_ms: Measured[];
  buckets: View['buckets'];
  heat: View['heat'];
  ranks: Pick<Rank, 'rank' | 'host' | 'ms'>[];
}

export type GroupState = 'down' | 'starting' | 'up' | 'busy' | 'stopping' | 'lost';

/** A GPU that a rank uses, or could use. */
export interface Gpu {
  index: number;
  name: string;
  busy_pct: Measured;
  used_bytes: Measured;
  total_bytes: Measured;
}

/** What a rank's host says of it; null where it could not be measured. */
export interface Vitals {
  cpu_pct: Measured;
  memory_bytes: Measured;
  gpus: Gpu[];
  /** Why there is no GPU; empty if there is one. */
  no_gpu: string;
  /** Batches that were ready when the last one was asked for; missing without a reader. */
  queue?: Measured;
}

export interface GroupRank {
  rank: number;
  host: string;
  pid: number | null;
  state: string;
  /** Missing until the rank has run a cell. */
  vitals?: Vitals | null;
  /** The last line that the rank printed. */
  line?: string;
}

export interface Group {
  state: GroupState;
  size: number;
  message: string;
  ranks: GroupRank[];
  /** When it came to this state, in seconds since the epoch. */
  since?: number;
  /** How long such a start usually takes, in seconds; null where none is known. */
  usual_s?: Measured;
  /** Whether ranks that are up still load TensorFlow. */
  loading?: boolean;
  /** The latest trace in depth that was written. */
  trace?: { file: string; words: string } | null;
  /** The latest comparison of a variable while a cell ran. */
  diff?: { number: number; words: string } | null;
  /** What a start is at. */
  step?: string;
}

/** What the kernel's machine has for ranks. */
export interface Room {
  cores: number;
  /** Memory that is not in use; null where not known. */
  free_bytes: Measured;
  /** What a rank that has loaded TensorFlow takes at least. */
  rank_bytes: number;
}

/** An earlier run, as its record lists it. */
export interface RunEntry {
  /** The name of its folder. */
  folder: string;
  name: string;
  state: string;
  started: number;
  /** Null while it goes on, or where it is not known. */
  ended: number | null;
  size: number;
  hosts: string[];
  steps: number;
  step_ms: Measured;
  /** Loss and metrics at its end. */
  values: Record<string, Measured>;
  verdict: string;
  kind: string;
  /** Of the part that the verdict names. */
  colour: string;
  starred: boolean;
  /** What the user has written of it; empty without. */
  note: string;
  tags: string[];
  /** Its folder on the kernel's machine. */
  path: string;
}

/** How much longer something became, with its 99 % interval. */
export interface Change {
  delta_ms: Measured;
  low_ms: Measured;
  high_ms: Measured;
  /** The means of both runs: `delta_ms` is their difference. */
  before_ms: Measured;
  after_ms: Measured;
  sure: boolean;
}

export interface Comparison {
  before: View;
  after: View;
  step: Change;
  /** In the order of `View.parts`. */
  parts: Change[];
  /** What is not the same in both, such as "ranks 2 -> 4". */
  differs: string[];
  /** What the change was, in a sentence. */
  sentence: string;
}

/** A file that the kernel made, for the browser to save. */
export interface Download {
  name: string;
  type: string;
  text: string;
}

/** What arrives on the comm that only the kernel sends on. */
export type Push =
  | { type: 'group'; group: Group }
  | { type: 'awaited'; name: string }
  | { type: 'run'; view: View; group: Group | null };

/** What can be done about the losses of the latest run, each with its expected gain. */
export interface Advice {
  /** The run's id. */
  run: string;
  verdict: string;
  step_ms: Measured;
  remedies: {
    number: number;
    words: string;
    /** What it is against. */
    loss: string;
    expected_ms: Measured;
    low_ms: Measured;
    high_ms: Measured;
    /** Whether the training computes the same numbers with it. */
    keeps_results: boolean;
    /** Whether a running training can try it. */
    can_try: boolean;
  }[];
  /** Remedies whose gain nobody knows. */
  unmodelled: string[];
}

/** The numbers of a run: `Report.model` in `eai_notebook/ledger/report.py`. */
export interface Report {
  /** The verdict, its remedies and its evidence. */
  lines: string[];
  /** The headings, then a row for each part; one that was not measured has two cells. */
  table: string[][];
  notes: string[];
}

/** What the kernel answers to a command. */
export interface Answer {
  type: 'done' | 'failed';
  number: number;
  message?: string;
  /** What the command asked for. */
  value?: unknown;
}
