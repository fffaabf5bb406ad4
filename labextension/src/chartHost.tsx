/** The chart as a React component. */
import { type JSX, useEffect, useRef } from 'react';
import { Chart } from './chart';
import type { KernelLink } from './kernelConnection';
import type { View } from './types';

interface Props {
  link: KernelLink;
  view: View;
  isLarge?: boolean;
}

export function ChartHost({ link, view, isLarge = false }: Props): JSX.Element {
  const host = useRef<HTMLDivElement>(null);
  const chart = useRef<Chart | null>(null);
  useEffect(() => {
    if (host.current === null) {
      return undefined;
    }
    chart.current = new Chart(host.current, isLarge);
    chart.current.askSection = (run, range) => link.section(run, range);
    return () => {
      chart.current?.dispose();
      chart.current = null;
    };
  }, [link, isLarge]);
  useEffect(() => {
    chart.current?.draw(view);
  }, [view]);
  return <div ref={host} />;
}
