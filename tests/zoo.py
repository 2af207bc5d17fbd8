"""What a student puts into a notebook to run script in the browser that shows it.

Each payload calls `pwn()`, so that a browser can tell whether one of them ran.
"""

from typing import Any

from nbformat.v4 import new_code_cell, new_markdown_cell, new_raw_cell

RUN = "window.pwned=(window.pwned||0)+1;alert(1)"

#: HTML that browsers run, as Markdown and as outputs have it.
HTML = (
    f"<script>{RUN}</script>",
    f"<scr<script>ipt>{RUN}</scr</script>ipt>",
    f'<img src=x onerror="{RUN}">',
    f"<img src=x onerror={RUN}//",
    f'<svg onload="{RUN}"><script>{RUN}</script></svg>',
    f'<svg><animate onbegin="{RUN}" attributeName=x dur=1s></svg>',
    f"<math><mtext><table><mglyph><style><img src=x onerror={RUN}></style>",
    f'<iframe srcdoc="<script>parent.{RUN}</script>"></iframe>',
    f'<iframe src="javascript:parent.{RUN}"></iframe>',
    f'<object data="javascript:{RUN}"></object><embed src="javascript:{RUN}">',
    f'<details open ontoggle="{RUN}"><summary>x</summary></details>',
    f'<input autofocus onfocus="{RUN}"><video src=x onerror="{RUN}"></video>',
    f'<form action="javascript:{RUN}"><button id=b>x</button></form>',
    f'<a class="bait" href="javascript:{RUN}">x</a>',
    f'<a class="bait" href=" &#1;java&#x0A;script&colon;{RUN}">x</a>',
    f'<a class="bait" href="files/javascript:{RUN}">x</a>',
    f'<a class="bait" href="data:text/html,<script>opener.{RUN}</script>">x</a>',
    f'<base href="javascript:/"><meta http-equiv=refresh content="0;javascript:{RUN}">',
    f'<style>@import "javascript:{RUN}";</style><p style="x:expression({RUN})">x</p>',
    f"</div></div></pre></textarea></title><script>{RUN}</script>",
    f'<a data-toggle="tooltip" data-html=1 title="<img src=x onerror={RUN}>">x</a>',
    f'<div data-link="javascript:{RUN}" class="score" id="test_visible">x</div>',
    f'<!--><img src=x onerror="{RUN}">-->',
    f'<script type="text/x-mathjax-config">{RUN}</script>',
)

#: Markdown that makes links and images of its own.
MARKDOWN = (
    f"[x](javascript:{RUN})",
    f"[x](/files/javascript:{RUN})",
    f"[x](JaVaScRiPt&colon;{RUN})",
    f"![x](javascript:{RUN})",
    f'![x](x "\\" onerror={RUN} \\"")',
    f"<javascript:{RUN}>",
    "![x](attachment:missing.png)",
    f"$\\href{{javascript:{RUN}}}{{x}}$ <b onclick={RUN}>x</b>",
    f"```mermaid\n</pre><script>{RUN}</script>\n```",
    f"# A heading <img src=x onerror={RUN}>",
)

PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAA"
    "SUVORK5CYII="
)

#: A cell that shows all that can be shown.
SHOW = f"""
from IPython.display import display
html = {HTML!r}
for one in html:
    display({{"text/html": one, "text/plain": one}}, raw=True)
    display({{"text/markdown": one}}, raw=True)
    svg = "<svg xmlns='http://www.w3.org/2000/svg'>" + one + "</svg>"
    display({{"image/svg+xml": svg}}, raw=True)
    print(one, "\\x1b[31m" + one)
    print("\\x1b]8;;javascript:{RUN}\\x07x\\x1b]8;;\\x07")
run = {RUN!r}
for kind in ("application/javascript", "text/javascript", "application/pdf",
             "application/vnd.jupyter.widget-view+json", "text/vnd.mermaid",
             "application/vnd.jupyter.widget-state+json"):
    display({{kind: run, "text/plain": "plain " + kind}}, raw=True)
display({{"text/latex": "$\\\\href{{javascript:" + run + "}}{{x}}$"}}, raw=True)
sized = {{"width": "1 onload=" + run, "alt": "x' onload=" + run}}
named = {{"image/png": sized, "filenames": {{"image/png": "x' onerror=" + run}}}}
display({{"image/png": {PNG!r}}}, metadata=named, raw=True)
isolated = {{"text/html": {{"isolated": True}}}}
display({{"text/html": html[0]}}, metadata=isolated, raw=True)
# The cell's number is what the kernel says.
kernel = get_ipython().kernel
number, parent = {{"code": "", "execution_count": html[2]}}, kernel.get_parent()
kernel.session.send(kernel.iopub_socket, "execute_input", number, parent=parent)
raise ValueError("".join(html))
"""


def infest(nb: Any) -> None:
    """Add all of it to a notebook, as its JSON."""
    cells = [new_markdown_cell(text) for text in (*HTML, *MARKDOWN)]
    cells += [
        new_raw_cell(text, metadata={"raw_mimetype": "text/html"}) for text in HTML
    ]
    cells += [new_code_cell(SHOW), new_code_cell("\n".join(HTML))]
    svg = f"<svg xmlns='http://www.w3.org/2000/svg' onload='{RUN}'/>"
    attached = {"a.svg": {f"text/html,<script>{RUN}</script>": svg, "text/html": svg}}
    cells.append(new_markdown_cell("![x](attachment:a.svg)", attachments=attached))
    for cell in cells:
        cell.metadata["tags"] = [f'"><img src=x onerror={RUN}>']
        cell.metadata["collapsed"] = f'"><script>{RUN}</script>'
    nb["cells"] += cells
    script = f"</script><script>{RUN}</script>"
    nb["metadata"] |= {
        "title": script,
        "widgets": {"application/vnd.jupyter.widget-state+json": {"x": script}},
        "language_info": {"name": script, "pygments_lexer": script},
    }


PAGE = f"<!doctype html><title>evil</title><script>{RUN}</script>"
