// A dashboard on Grafana's grid, with panels that were answered before: `page.json` has both.
import '@fontsource/inter/latin-400.css';
import '@fontsource/inter/latin-500.css';
import { createTheme, type DataFrame, dateTime, type GrafanaTheme2, ThemeContext, type TimeRange } from '@grafana/data';
import { GlobalStyles, Icon, PanelChrome } from '@grafana/ui';
import { Component, type ReactNode } from 'react';
import { createRoot } from 'react-dom/client';
import { shown } from './fields';
import { frames } from './frames';
import { Content } from './panels';

export interface Series {
  metric: Record<string, string>;
  value?: [number, string];
  values?: Array<[number, string]>;
}
export type Answer = Series[];
export interface Target {
  refId: string;
  legendFormat?: string;
  format?: string;
}
export interface Panel {
  type: string;
  title: string;
  description?: string;
  collapsed?: boolean;
  place: { left: number; top: number; width: number; height: number };
  targets?: Target[];
  transformations?: any[];
  fieldConfig: { defaults: any; overrides: Array<{ matcher: any; properties: Array<{ id: string; value: any }> }> };
  options: any;
  answers: Record<string, Answer>;
}
interface Page {
  title: string;
  note: string;
  since: number;
  until: number;
  step: number;
  panels: Panel[];
}

// In pixels, as layout.py has them.
const MARGIN = 16, HEAD = 48, FOOT = 36;

class Watched extends Component<{ title: string; children: ReactNode }> {
  static getDerivedStateFromError = () => ({ failed: true });
  state = { failed: false };
  componentDidCatch(error: Error) {
    console.log(`FAILED ${this.props.title}: ${error.message}`);
  }
  render = () => (this.state.failed ? null : this.props.children);
}

function Row({ panel, theme }: { panel: Panel; theme: GrafanaTheme2 }) {
  const closed = panel.collapsed ? ' (closed)' : '';
  return (
    <div style={{ position: 'absolute', ...panel.place, lineHeight: `${panel.place.height}px`, fontSize: 16, fontWeight: 500, color: theme.colors.text.primary }}>
      <Icon name={panel.collapsed ? 'angle-right' : 'angle-down'} /> {panel.title}
      <span style={{ color: theme.colors.text.disabled }}>{closed}</span>
    </div>
  );
}

function Dashboard({ page, data, theme }: { page: Page; data: DataFrame[][]; theme: GrafanaTheme2 }) {
  const from = dateTime(page.since * 1000), to = dateTime(page.until * 1000);
  const range: TimeRange = { from, to, raw: { from, to } };
  const line = { position: 'absolute', left: MARGIN, right: MARGIN, display: 'flex', justifyContent: 'space-between', alignItems: 'center' } as const;
  return (
    <>
      <div style={{ ...line, top: 0, height: HEAD, fontSize: 18, fontWeight: 500 }}>
        <span>{page.title}</span>
        <span style={{ fontSize: 14, color: theme.colors.text.secondary }}>
          {from.utc().format('HH:mm:ss')} to {to.utc().format('HH:mm:ss')} UTC
        </span>
      </div>
      {page.panels.map((panel, index) => panel.type === 'row' ? <Row key={index} panel={panel} theme={theme} /> : (
        <div key={index} style={{ position: 'absolute', ...panel.place }}>
          <Watched title={panel.title}>
            <PanelChrome title={panel.title} description={panel.description} width={panel.place.width} height={panel.place.height}>
              {(width, height) => (
                <Watched title={panel.title}>
                  <Content panel={panel} frames={data[index]} width={width} height={height} range={range} theme={theme} />
                </Watched>
              )}
            </PanelChrome>
          </Watched>
        </div>
      ))}
      <div style={{ ...line, bottom: 0, height: FOOT, fontSize: 12, color: theme.colors.text.secondary }}>{page.note}</div>
    </>
  );
}

async function main() {
  const page: Page = await (await fetch('page.json')).json();
  const theme = createTheme({ colors: { mode: 'dark' } });
  await Promise.all([document.fonts.load('400 14px Inter'), document.fonts.load('500 14px Inter')]);
  const data = await Promise.all(
    page.panels.map((panel) => (panel.targets ? shown(panel, frames(panel, page.step), theme) : [])),
  );
  const root = document.getElementById('page')!;
  Object.assign(root.style, { position: 'relative', height: '100vh' });
  createRoot(root).render(
    <ThemeContext.Provider value={theme}>
      <GlobalStyles hackNoBackdropBlur isExtensionSidebarOpen={false} />
      <Dashboard page={page} data={data} theme={theme} />
    </ThemeContext.Provider>,
  );
  // Tables measure themselves first, and lines are drawn in the frame after.
  setTimeout(() => console.log(`DRAWN ${page.panels.length}`), 1500);
}

main().catch((error) => console.log(`FAILED page: ${error.stack}`));
