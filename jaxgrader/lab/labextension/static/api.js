/* The server's part of the panel: handlers.py tells what each of these does. */

/** What the server refused, or could not do, in its own words. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export class Api {
  constructor({ coreutils, services }) {
    this.join = coreutils.URLExt.join;
    this.connection = services.ServerConnection;
    this.settings = this.connection.makeSettings();
  }

  state = () => this.ask('state');
  submissions = assignment => this.ask('submissions', { assignment });
  log = (assignment, student) => this.ask('log', { assignment, student });
  batchLog = () => this.ask('batch-log');
  start = (what, submissions) => this.order('start', { what, submissions });
  cancel = born => this.order('cancel', { born });
  report = anonymous => this.order('report', { anonymous });
  survey = () => this.order('survey', {});

  /** Return the address of one of the server's pages. */
  page = path => this.join(this.settings.baseUrl, path);

  ask(name, query = {}) {
    return this.request(name + '?' + new URLSearchParams(query), { method: 'GET' });
  }

  order(name, body) {
    const headers = { 'Content-Type': 'application/json' };
    return this.request(name, { method: 'POST', headers, body: JSON.stringify(body) });
  }

  /** Send a request, with Jupyter's token and XSRF token. Throws `Refused`. */
  async request(path, init) {
    const url = this.join(this.settings.baseUrl, 'jaxgrader/api', path);
    const reply = await this.connection.makeRequest(url, init, this.settings);
    const body = await reply.json().catch(() => ({}));
    if (!reply.ok) {
      throw new Refused(reply.status, body.message ?? reply.statusText);
    }
    return body;
  }
}
