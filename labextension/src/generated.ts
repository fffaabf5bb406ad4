/** Constants that Python has, too. Made by `tools/generate_front.py`: change them there. */

/** Target of the comm on which the kernel sends. */
export const PUSH_TARGET = 'eai_notebook';

/** Its fixed id. */
export const PUSH_ID = 'eai_notebook_push';

/** Target of the comm for commands. */
export const CONTROL_TARGET = 'eai_notebook_ctl';

/** Type of the output of a cell whose run goes on. */
export const RUN_MIME = 'application/vnd.eai-notebook.run+json';

/** Formats that gradients can travel in; the first is the default. */
export const WIRES = ['fp32', 'fp16', 'bf16', 'int8', 'int4', 'auto'] as const;

/** The most ranks that the form starts. */
export const MOST_RANKS = 512;

/** The outline around time that no part explains. */
export const UNMEASURED = '#808080';

/** Steps that the axis of a short run has room for. */
export const FEWEST_SLOTS = 48;

/** This share of the bars is at most as long as a usual one. */
export const USUAL_SHARE = 0.9;

/** A bar so many times longer than a usual one is cut. */
export const LONG = 2;

/** The axis is then so many times a usual bar. */
export const HEADROOM = 1.3;

/** Ranks that get a bar with a label each. */
export const MOST_THICK = 16;

/** Pixels that the bars of more ranks share. */
export const RANKS_HEIGHT = 320;

/** Evenly spaced colours from the shortest to the longest. */
export const HEAT_SCALE = ['#00204c', '#575c6d', '#a69d75', '#ffe945'] as const;

/** Height of a rank's row, in pixels. */
export const HEAT_ROW = 6;

/** The least height of all rows together. */
export const LEAST_HEAT = 40;

/** The most height of all rows together. */
export const MOST_HEAT = 200;

/** Of the heat map's picture, across. */
export const MOST_PIXELS = 480;

/** Metrics that get a curve. */
export const MOST_CURVES = 6;

/** Width of a curve, in its own units. */
export const CURVE_WIDE = 120;

/** Height of a curve, in its own units. */
export const CURVE_TALL = 36;

/** A metric on the training data. */
export const TRAINING_COLOUR = '#0072B2';

/** Of runs that are shown together. */
export const OVERLAY = ['#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9'] as const;

/** The throughput of all ranks. */
export const RATE_COLOUR = '#009E73';

/** Of a curve of the throughput. */
export const FEWEST_POINTS = 5;

/** A metric on the validation data. */
export const VALIDATION_COLOUR = '#D55E00';

/** How a part is drawn and named. */
export interface PartStyle {
  colour: string;
  meaning: string;
  letter: string;
  texture: readonly (readonly [number, number, number, number])[];
  doing: string;
  activity: 'computing' | 'reading' | 'waiting' | 'moving' | 'running';
  wait: string;
  needs_peers: boolean;
}

/** The parts of a step. */
export const PARTS: Readonly<Record<string, PartStyle>> = {
  input: {
    colour: '#E69F00',
    meaning: 'blocked waiting for the next batch',
    letter: 'i',
    texture: [
      [-1, 7, 7, -1],
      [1, 9, 9, 1]
    ],
    doing: 'waiting for input',
    activity: 'reading',
    wait: 'input wait',
    needs_peers: false
  },
  compute: {
    colour: '#009E73',
    meaning: 'forward and backward, until the local gradients are ready',
    letter: 'C',
    texture: [],
    doing: 'computing',
    activity: 'computing',
    wait: '',
    needs_peers: false
  },
  wait_peer: {
    colour: '#D55E00',
    meaning: 'gradients ready here, a slower rank not there yet',
    letter: 'w',
    texture: [
      [-1, 1, 7, 9],
      [1, -1, 9, 7]
    ],
    doing: 'waiting for a slower rank',
    activity: 'waiting',
    wait: 'slower ranks',
    needs_peers: true
  },
  transfer: {
    colour: '#0072B2',
    meaning: 'communication after the last rank was ready',
    letter: 't',
    texture: [[0, 4, 8, 4]],
    doing: 'communicating',
    activity: 'moving',
    wait: 'exposed communication',
    needs_peers: true
  },
  update: {
    colour: '#CC79A7',
    meaning: 'applying the reduced gradients',
    letter: 'u',
    texture: [[4, 0, 4, 8]],
    doing: 'updating weights',
    activity: 'computing',
    wait: '',
    needs_peers: false
  },
  other: {
    colour: '#999999',
    meaning: 'the rest: callbacks, making iterators, compiling, garbage collection, Python',
    letter: 'o',
    texture: [],
    doing: 'in Python',
    activity: 'running',
    wait: '',
    needs_peers: false
  }
};
