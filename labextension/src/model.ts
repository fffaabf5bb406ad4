/** What the kernel sends: the mirror of `eai_notebook/ledger/view.py` and of the group's state. */

/** A number, or null where nothing was measured. */
export type Measured = number | null;

export interface Rank {
  rank: number;
  host: string;
  /** Mean milliseconds of each part over the typical steps, in the order of `View.parts`. */
  ms: Measured[];
  hidden_ms: Measured;
}

export interface View {
  schema: number;
  run: {
    id: string;
    name: string;
    state: string;
    /** Seconds since the epoch. */
    started: number;
    size: number;
    hosts: string[];
    steps: number;
  };
  parts: string[];
  buckets: {
    /** Steps in each bucket. */
    width: number;
    /** First step of each bucket. */
    step: number[];
    /** Mean milliseconds over ranks of each part, for each bucket. */
    ms: Measured[][];
  };
  ranks: Rank[];
  rates: {
    samples_per_s: Measured;
    step_ms: Measured;
    bytes_per_step: Measured;
    bus_bytes_per_s: Measured;
  };
  verdict: { kind: string; sentence: string; evidence: string[]; rank: number | null };
  measuring_pct: Measured;
}

export type GroupState = 'down' | 'starting' | 'up' | 'busy' | 'stopping' | 'lost';

export interface Group {
  state: GroupState;
  size: number;
  message: string;
  ranks: { rank: number; host: string; pid: number | null; state: string }[];
}

/** What arrives on the comm that only the kernel sends on. */
export type Push =
  { type: 'group'; group: Group } | { type: 'run'; view: View; group: Group | null };

/** What the kernel answers to a command. */
export interface Answer {
  type: 'done' | 'failed';
  number: number;
  message?: string;
}
