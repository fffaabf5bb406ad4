/** Notifications of the browser when a run ends or fails while nobody looks at the page. */
import type { Arrival } from './live';
import { arrivals } from './live';
import { duration } from './formatting';

/** Whether this browser is to notify. */
const WISHED = 'eai-notebook:notify';

/** How a run that has ended is called; one that the user has interrupted is no news. */
const NEWS: Readonly<Record<string, string>> = {
  done: 'is done',
  failed: 'has failed',
  lost: 'is lost: a rank is gone'
};

export function isNotifying(): boolean {
  return (
    window.localStorage.getItem(WISHED) === 'yes' &&
    'Notification' in window &&
    Notification.permission === 'granted'
  );
}

/** Turn notifications on or off; returns why they cannot be on, or nothing. */
export async function setNotifying(on: boolean): Promise<string> {
  if (!on) {
    window.localStorage.removeItem(WISHED);
    return '';
  }
  if (!('Notification' in window)) {
    return 'This browser has no notifications for pages that are not served by https or from this machine.';
  }
  if ((await Notification.requestPermission()) !== 'granted') {
    return 'The browser does not allow this page to notify: allow it in the settings of the page.';
  }
  window.localStorage.setItem(WISHED, 'yes');
  return '';
}

/** Notify of the ends of the runs that were seen running. */
export function notifyOfEnds(): void {
  const running = new Set<string>();
  arrivals.arrived.connect((_: unknown, { view }: Arrival) => {
    const { id, name, state, started, ended } = view.run;
    if (state === 'running') {
      running.add(id);
      return;
    }
    const news = NEWS[state];
    const isNews = running.delete(id) && news !== undefined;
    if (!isNews || document.hasFocus() || !isNotifying()) {
      return;
    }
    const took = ended === null ? '' : ` after ${duration(Math.max(0, ended - started))}`;
    // The tag: pages that show one run notify once together.
    const shown = new Notification(`${name} ${news}${took}`, {
      body: view.verdict.sentence.replaceAll('`', ''),
      tag: id
    });
    shown.onclick = () => {
      window.focus();
      shown.close();
    };
  });
}
