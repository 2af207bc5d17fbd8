/*
 * The panel: what the course has to grade, the batch that runs, and the buttons for it.
 * It holds no state but what is selected and unfolded; all else is asked of the server,
 * once a second while a batch runs.
 */
import { Assignment } from './assignment.js';
import { arrange, duration, make, plural, setText } from './dom.js';

/** Milliseconds between questions to the server. */
const BUSY = 1000;
const IDLE = 5000;
const LONGEST = 10000;

/** What can be graded: by the server's word, the states that it is about. */
const CHOICES = {
  missing: { label: 'Not graded', states: ['not graded'] },
  stale: { label: 'Stale', states: ['stale'] },
  'missing and stale': { label: 'Both', states: ['not graded', 'stale'] },
  all: { label: 'All, again', states: null }
};

/** Return the panel's class, made of JupyterLab's own widget. */
export function makePanelClass(lab) {
  const { Dialog, showDialog } = lab.apputils;

  return class Panel extends lab.widgets.Widget {
    /** `doors` open what is shown elsewhere: openNotebook(path), openLog(title, load). */
    constructor(api, doors) {
      super({ node: make('div', { className: 'jg-Panel', tabIndex: -1 }) });
      this.api = api;
      this.doors = doors;
      this.assignments = new Map();
      this.born = null;
      this.build();
      this.poll = new lab.polling.Poll({
        name: 'jaxgrader:state',
        factory: () => this.refresh(),
        frequency: { interval: IDLE, backoff: true, max: LONGEST },
        standby: () => !this.isVisible || document.hidden
      });
    }

    dispose() {
      this.poll.dispose();
      super.dispose();
    }

    onAfterShow() {
      void this.poll.refresh();
    }

    onActivateRequest() {
      this.node.focus();
    }

    build() {
      this.course = make('span', { className: 'jg-Course' });
      // What is wrong with the course, or the server; and what was refused last.
      this.trouble = make('div', { className: 'jg-Trouble', role: 'alert', hidden: true });
      this.refusal = make('div', { className: 'jg-Trouble', role: 'alert', hidden: true });
      this.list = make('table', { className: 'jg-Assignments', 'aria-label': 'Assignments' });
      this.empty = make('p', { className: 'jg-Quiet', hidden: true });
      this.node.append(
        make(
          'div',
          { className: 'jg-Head' },
          make('h1', { textContent: 'Jax Grader' }),
          this.course,
          make('button', {
            className: 'jg-Button',
            textContent: 'Check the files again',
            title: 'Look for new submissions, and for tests that have changed',
            onclick: () => this.order(() => this.api.survey())
          }),
          make('a', {
            className: 'jg-Button',
            textContent: 'Formgrader ↗',
            href: this.api.page('formgrader'),
            target: '_blank',
            rel: 'noopener'
          })
        ),
        this.trouble,
        this.refusal,
        this.buildBatch(),
        this.buildStart(),
        this.empty,
        this.list,
        this.buildReport()
      );
    }

    /** Return the part about the batch that runs, or ran last. */
    buildBatch() {
      this.status = make('p', { className: 'jg-Status' });
      this.detail = make('p', { className: 'jg-Quiet' });
      this.running = make('ul', { className: 'jg-Running', 'aria-label': 'Graded now' });
      this.bar = make('progress', { 'aria-label': 'Progress of the batch', hidden: true });
      // Read out: milestones only, not each second.
      this.spoken = make('p', { className: 'jg-Spoken', role: 'status', 'aria-live': 'polite' });
      this.cancel = make('button', {
        className: 'jg-Button jg-mod-warn',
        textContent: 'Cancel',
        hidden: true,
        onclick: () => {
          this.cancel.disabled = true;
          setText(this.spoken, 'Cancelling.');
          void this.order(() => this.api.cancel(this.born));
        }
      });
      const log = make('button', {
        className: 'jg-Button',
        textContent: 'Log of the batch',
        onclick: () => this.doors.openLog('Log of the batch', () => this.api.batchLog())
      });
      return make(
        'section',
        { className: 'jg-Batch', 'aria-label': 'Batch' },
        make(
          'div',
          { className: 'jg-Batch-words' },
          this.status,
          this.bar,
          this.running,
          this.detail,
          this.spoken
        ),
        make('div', { className: 'jg-Batch-buttons' }, log, this.cancel)
      );
    }

    /** Return the part that starts a batch. */
    buildStart() {
      const name = `jg-${crypto.randomUUID()}`;
      this.choices = Object.entries(CHOICES).map(([value, { label }]) =>
        make(
          'label',
          { className: 'jg-Choice' },
          make('input', {
            type: 'radio',
            name,
            value,
            checked: value === 'missing',
            onchange: () => this.updateStart()
          }),
          make('span', { textContent: label })
        )
      );
      this.start = make('button', {
        className: 'jg-Button jg-mod-main',
        disabled: true,
        onclick: () => this.startSelected()
      });
      this.hint = make('span', { className: 'jg-Quiet' });
      return make(
        'section',
        { className: 'jg-Start', 'aria-label': 'Start a batch' },
        make(
          'fieldset',
          { className: 'jg-Choices' },
          make('legend', { textContent: 'Grade what is' }),
          ...this.choices
        ),
        this.start,
        this.hint
      );
    }

    /** Return the part about the class report: made on request, opened by a link. */
    buildReport() {
      const names = make('input', { type: 'checkbox' });
      const link = make('a', {
        className: 'jg-Button',
        target: '_blank',
        rel: 'noopener',
        hidden: true
      });
      const button = make('button', {
        className: 'jg-Button',
        textContent: 'Make the class report',
        onclick: async () => {
          button.disabled = true;
          link.hidden = true;
          setText(this.spoken, 'Making the class report.');
          if (await this.order(() => this.api.report(names.checked))) {
            // Another address each time: no tab shows an older one.
            link.href = this.api.page(`jaxgrader/api/report?${Date.now()}`);
            setText(link, `Open the report of ${new Date().toLocaleTimeString()} ↗`);
            link.hidden = false;
            link.focus();
          }
          button.disabled = false;
        }
      });
      return make(
        'section',
        { className: 'jg-Start jg-Report', 'aria-label': 'Class report' },
        button,
        make('label', {}, names, ' without names'),
        link
      );
    }

    get what() {
      return this.choices.find(each => each.firstChild.checked).firstChild.value;
    }

    /** Ask the server where everything stands, and show it. */
    async refresh() {
      let state;
      try {
        state = await this.api.state();
      } catch (error) {
        const away = error.status === undefined;
        complain(this.trouble, away ? AWAY : error.message);
        throw error;
      }
      complain(this.trouble, state.trouble);
      setText(this.course, state.course);
      this.updateBatch(state);
      this.updateAssignments(state);
      this.updateStart();
      const interval = state.batch || state.starting || !state.surveyed ? BUSY : IDLE;
      if (this.poll && this.poll.frequency.interval !== interval) {
        this.poll.frequency = { interval, backoff: true, max: LONGEST };
      }
    }

    updateBatch({ batch, starting, last_words: lastWords }) {
      this.busy = Boolean(batch) || starting;
      const holder = batch?.holder ?? null;
      if (holder?.born !== this.born || !this.busy) {
        this.cancel.disabled = false;
      }
      this.born = holder?.born ?? null;
      this.cancel.hidden = !holder?.mine;
      this.bar.hidden = !this.busy;
      this.updateRunning(batch?.running ?? []);
      if (batch && (batch.total > 0 || !starting)) {
        this.bar.max = Math.max(1, batch.total);
        this.bar.value = batch.done;
        const waiting = batch.total - batch.done - batch.running.length;
        setText(
          this.status,
          `Grading: ${batch.done} of ${batch.total} done, ${batch.running.length} running, ` +
            `${waiting} queued${remaining(batch)}`
        );
        setText(this.detail, holder ? startedBy(holder) : ELSEWHERE);
      } else if (starting) {
        this.bar.removeAttribute('value');
        setText(this.status, 'Starting …');
        setText(this.detail, '');
      } else {
        setText(this.status, 'Nothing is being graded.');
        setText(this.detail, lastWords);
      }
      this.speak(batch, starting);
    }

    updateRunning(running) {
      const names = running.slice(0, 8).map(pair => pair.join(' · '));
      if (running.length > names.length) {
        names.push(`and ${running.length - names.length} more`);
      }
      if (names.join('\n') !== this.runningNames) {
        this.runningNames = names.join('\n');
        this.running.replaceChildren(
          ...names.map(name => make('li', { textContent: name }))
        );
      }
    }

    /** Say where the batch is to those who listen: at its start, each quarter, its end. */
    speak(batch, starting) {
      if (batch && batch.total > 0) {
        const quarter = Math.floor((4 * batch.done) / batch.total);
        if (quarter !== this.quarter) {
          setText(this.spoken, `${batch.done} of ${plural(batch.total, 'submission')} graded.`);
        }
        this.quarter = quarter;
      } else if (!batch && !starting && this.quarter !== undefined) {
        setText(this.spoken, 'The batch has ended.');
        this.quarter = undefined;
      }
    }

    updateAssignments({ assignments, surveyed }) {
      const known = this.assignments;
      this.assignments = new Map(
        assignments.map(data => {
          const view = known.get(data.name) ?? new Assignment(data.name, this.actions());
          view.update(data);
          return [data.name, view];
        })
      );
      const head = this.list.tHead ?? Assignment.heading();
      arrange(this.list, [head, ...[...this.assignments.values()].map(each => each.node)]);
      this.list.hidden = assignments.length === 0;
      this.empty.hidden = assignments.length > 0;
      setText(this.empty, surveyed ? NOTHING : 'Looking at the course …');
    }

    /** What the rows can do. */
    actions() {
      return {
        submissions: name => this.api.submissions(name),
        changed: () => this.updateStart(),
        complain: text => complain(this.refusal, text),
        page: path => this.api.page(path),
        notebook: path => this.doors.openNotebook(path),
        log: ({ assignment, student }) =>
          this.doors.openLog(`Log: ${student} · ${assignment}`, () =>
            this.api.log(assignment, student)
          ),
        retry: id => this.order(() => this.api.start('all', [id]))
      };
    }

    /** Return the assignments that a batch would be about: all, if none is selected. */
    chosen() {
      const views = [...this.assignments.values()];
      const some = views.filter(each => each.order().length > 0);
      return some.length > 0 ? some : views;
    }

    updateStart() {
      const { states } = CHOICES[this.what];
      const chosen = this.chosen();
      const count = chosen.reduce((sum, each) => sum + each.count(states), 0);
      setText(this.start, count ? `Grade ${plural(count, 'submission')}` : 'Grade');
      this.start.disabled = this.busy || count === 0;
      const selected = chosen.some(each => each.order().length > 0);
      setText(
        this.hint,
        this.busy
          ? ''
          : count === 0
            ? `Nothing ${selected ? 'that is selected' : 'here'} is in this state.`
            : selected
              ? 'of those that are selected'
              : `of all ${plural(chosen.length, 'assignment')}`
      );
    }

    async startSelected() {
      const chosen = this.chosen();
      if (this.what === 'all') {
        const { button } = await showDialog({
          title: 'Grade all of them again?',
          body: AGAIN,
          buttons: [Dialog.cancelButton(), Dialog.okButton({ label: 'Grade' })]
        });
        if (!button.accept) {
          return;
        }
      }
      const submissions = chosen.flatMap(each =>
        each.order().length > 0 ? each.order() : [{ assignment: each.name }]
      );
      await this.order(() => this.api.start(this.what, submissions));
    }

    /** Order something; return whether it was done, and say so if it was refused. */
    async order(send) {
      this.start.disabled = true;
      complain(this.refusal, '');
      let done = true;
      try {
        await send();
      } catch (error) {
        done = false;
        complain(this.refusal, error.message);
        this.cancel.disabled = false;
      }
      await this.poll.refresh();
      return done;
    }
  };
}

/** Show a complaint, or take it away. */
function complain(element, text) {
  element.hidden = !text;
  setText(element, text);
}

/** Return how long a batch may still take, if that can be said. */
function remaining({ holder, done, total, running }) {
  const seconds = holder ? (Date.now() - Date.parse(holder.since)) / 1000 : 0;
  if (done < 3 || done + running.length === total || seconds < 5) {
    return '.';
  }
  return `, about ${duration((seconds / done) * (total - done))} left.`;
}

/** Return who started a batch, where and when. */
function startedBy({ user, host, pid, command, since, mine }) {
  const when = new Date(since).toLocaleTimeString();
  const where = `process ${pid} on ${host}`;
  const stop = mine ? '' : ' It can be stopped there, by who started it.';
  return `Started by ${user} at ${when}: ${command} (${where}).${stop}`;
}

const AWAY =
  'The server does not answer. A batch goes on without it; trying again until it is back.';
const ELSEWHERE = 'Graded by another machine, or by a batch that was killed.';
const AGAIN =
  'What they have now is replaced as each one ends. Manual scores and comments stay.';
const NOTHING =
  'No assignment has a submission yet. Release one, and collect what students submit.';
