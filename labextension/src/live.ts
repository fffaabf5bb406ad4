/** The views of all runs as they arrive, for whatever draws one: the panel, an output. */
import { type ISignal, Signal } from '@lumino/signaling';
import type { AskSection } from './chart';
import type { View } from './types';

/** A run's view, and who can be asked for more of it. */
export interface Arrival {
  view: View;
  /** The picture of the run for a notebook that keeps it. */
  picture: () => Promise<Picture>;
  /** Some of its steps in detail. */
  section: AskSection;
}

/** A run's picture in the formats that front ends choose from, and the code that shows it. */
export interface Picture {
  data: Record<string, string>;
  code: string;
}

class Arrivals {
  get arrived(): ISignal<this, Arrival> {
    return this._arrived;
  }

  add(arrival: Arrival): void {
    this._arrived.emit(arrival);
  }

  private readonly _arrived = new Signal<this, Arrival>(this);
}

export const arrivals = new Arrivals();
