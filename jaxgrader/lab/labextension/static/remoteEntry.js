/*
 * The container through which JupyterLab loads this extension (webpack's module
 * federation, https://webpack.js.org/concepts/module-federation). It is all that a
 * bundler would add: the other files are ES modules, which browsers load themselves.
 */
'use strict';

(() => {
  const here = document.currentScript.src;
  let scope = {};

  /** Return a module that JupyterLab shares: the application's own copy of it. */
  async function shared(name) {
    const copies = Object.values(scope[name] ?? {});
    if (copies.length === 0) {
      throw new Error(`Jax Grader: this JupyterLab does not share ${name}.`);
    }
    const own = copies.find(each => each.from?.includes('@jupyterlab/application'));
    return (await (own ?? copies[copies.length - 1]).get())();
  }

  const modules = {
    './extension': async () => {
      const { makePlugin } = await import(new URL('plugin.js', here).href);
      return { __esModule: true, default: await makePlugin(shared) };
    },
    './style': async () => {
      const link = document.createElement('link');
      link.rel = 'stylesheet';
      link.href = new URL('style.css', here).href;
      document.head.append(link);
      return {};
    }
  };

  window._JUPYTERLAB ??= {};
  window._JUPYTERLAB.jaxgrader = {
    init: sharedScope => {
      scope = sharedScope;
    },
    get: async name => {
      const found = await modules[name]();
      return () => found;
    }
  };
})();
