/** What the panel knows about one kernel. */
import { type ISignal, Signal } from '@lumino/signaling';
import { WIRES } from './generated';
import type { Draft } from './startMagic';
import type { Group, View } from './types';

export class KernelState {
  get group(): Group | null {
    return this._group;
  }

  /** The latest run; it stays when the group is gone, for it can still be read. */
  get view(): View | null {
    return this._view;
  }

  /** The name of a training that gets ready, and has no run yet; else empty. */
  get awaited(): string {
    return this._awaited;
  }

  /** One line about what the panel itself is doing, or what went wrong when it tried. */
  get notice(): string {
    return this._notice;
  }

  /** Whether the notice is about a failure. */
  get failed(): boolean {
    return this._failed;
  }

  /** Whether the panel waits for the kernel to start or end the group. */
  get pending(): boolean {
    return this._pending;
  }

  /** Whether the kernel serves the panel while a cell runs; not known at once. */
  get besideCells(): boolean {
    return this._besideCells;
  }

  /** What the form that starts a group holds; it outlives the form itself. */
  draft: Draft = { ranks: '2', hosts: '', wire: WIRES[0], keep: false };

  get changed(): ISignal<this, void> {
    return this._changed;
  }

  set(news: {
    group?: Group | null;
    view?: View | null;
    awaited?: string;
    notice?: string;
    failed?: boolean;
    pending?: boolean;
    besideCells?: boolean;
  }): void {
    this._group = news.group === undefined ? this._group : news.group;
    this._view = news.view === undefined ? this._view : news.view;
    this._awaited = news.awaited ?? this._awaited;
    this._notice = news.notice ?? this._notice;
    this._failed = news.notice === undefined ? this._failed : (news.failed ?? false);
    this._pending = news.pending ?? this._pending;
    this._besideCells = news.besideCells ?? this._besideCells;
    this._changed.emit();
  }

  private _group: Group | null = null;
  private _view: View | null = null;
  private _awaited = '';
  private _notice = '';
  private _failed = false;
  private _pending = false;
  private _besideCells = true;
  private readonly _changed = new Signal<this, void>(this);
}
