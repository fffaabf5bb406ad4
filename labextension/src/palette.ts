/** The colours of the parts, the same in every display (`eai_notebook/display/palette.py`). */
export const COLOURS: Readonly<Record<string, string>> = {
  input: '#E69F00',
  compute: '#009E73',
  wait_peer: '#D55E00',
  transfer: '#0072B2',
  update: '#CC79A7',
  other: '#999999'
};

export const MEANINGS: Readonly<Record<string, string>> = {
  input: 'blocked waiting for the next batch',
  compute: 'forward and backward, until the local gradients are ready',
  wait_peer: 'gradients ready here, a slower rank not there yet',
  transfer: 'communication after the last rank was ready',
  update: 'applying the reduced gradients',
  other: 'the rest: callbacks, making iterators, compiling, garbage collection, Python'
};

/** The outline around time that no part explains, such as the step that compiles. */
export const UNMEASURED = '#808080';

export function colour(part: string): string {
  return COLOURS[part] ?? '#999999';
}
