/*
 * The plugin: a panel, a log viewer, and the ways to open them. Nothing is added for
 * those whom the server does not let in.
 */
import { Api } from './api.js';
import { makeLog } from './log.js';
import { makePanelClass } from './panel.js';

const OPEN = 'jaxgrader:open';
const TITLE = 'Jax Grader';

/** Return JupyterLab's plugin; `shared` finds the modules that JupyterLab shares. */
export async function makePlugin(shared) {
  const names = {
    application: '@jupyterlab/application',
    apputils: '@jupyterlab/apputils',
    coreutils: '@jupyterlab/coreutils',
    launcher: '@jupyterlab/launcher',
    polling: '@lumino/polling',
    services: '@jupyterlab/services',
    widgets: '@lumino/widgets'
  };
  const entries = await Promise.all(
    Object.entries(names).map(async ([key, name]) => [key, await shared(name)])
  );
  const lab = Object.fromEntries(entries);
  return {
    id: 'jaxgrader:plugin',
    description: 'Grade the class from JupyterLab.',
    autoStart: true,
    optional: [
      lab.apputils.ICommandPalette,
      lab.launcher.ILauncher,
      lab.application.ILayoutRestorer
    ],
    activate: (app, palette, launcher, restorer) =>
      activate(lab, app, palette, launcher, restorer)
  };
}

/** Called by JupyterLab when it starts. */
function activate(lab, app, palette, launcher, restorer) {
  const { MainAreaWidget, WidgetTracker } = lab.apputils;
  const api = new Api(lab);
  const Panel = makePanelClass(lab);
  const tracker = new WidgetTracker({ namespace: 'jaxgrader' });
  let widget = null;

  function show(content, id, title) {
    const area = new MainAreaWidget({ content });
    area.id = id;
    area.title.label = title;
    area.title.caption = title;
    area.title.closable = true;
    area.title.iconClass = 'jg-Icon';
    app.shell.add(area, 'main');
    app.shell.activateById(id);
    return area;
  }

  // 403: no staff. 404: the server's part is not enabled. Else: let them see it.
  const allowed = api.state().then(
    () => true,
    error => ![403, 404].includes(error.status)
  );

  async function open() {
    if (!(await allowed)) {
      return;
    }
    if (widget === null || widget.isDisposed) {
      const panel = new Panel(api, {
        openNotebook: path => app.commands.execute('docmanager:open', { path }),
        openLog: (title, load) =>
          show(makeLog(lab, title, load), `jaxgrader-log-${Date.now()}`, title)
      });
      widget = show(panel, 'jaxgrader-panel', TITLE);
      await tracker.add(widget);
    }
    app.shell.activateById(widget.id);
  }

  app.commands.addCommand(OPEN, {
    label: TITLE,
    caption: 'Grade the class: start a batch, watch it, cancel it',
    iconClass: 'jg-Icon',
    execute: open
  });
  // At once: later it is refused. It waits for the command, and that for `allowed`.
  void restorer?.restore(tracker, { command: OPEN, name: () => 'panel' });
  void allowed.then(yes => {
    if (yes) {
      palette?.addItem({ command: OPEN, category: 'Nbgrader' });
      launcher?.add({ command: OPEN, category: 'Other', rank: 10 });
    }
  });
}
