"""The style of the report, and the policy that lets a browser apply this style and load nothing."""

import base64
import hashlib

from .svg import LEFT, RIGHT, TOP

_RULES = """
:root{color-scheme:light dark;--back:#f7f7f4;--card:#fff;--ink:#1c1f23;--soft:#6a7078;--rule:#e4e4de;
--c1:#2563c9;--c2:#d9730d;--c3:#b03a5b;--good:#23804a;--bad:#c0262d}
@media(prefers-color-scheme:dark){:root{--back:#14171b;--card:#1c2026;--ink:#e8eaed;--soft:#99a1ab;--rule:#2d333b;
--c1:#6ea8ff;--c2:#f3a04b;--c3:#ef7d9d;--good:#5bc88a;--bad:#ff6b6b}}
*{box-sizing:border-box}body{margin:0;background:var(--back);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1040px;margin:0 auto;padding:40px 20px 64px}
header p{margin:0;color:var(--soft)}
h1{margin:4px 0;font-size:clamp(19px,5.6vw,30px);line-height:1.2;overflow-wrap:anywhere}
header .load{font-size:17px}h2{margin:0;font-size:17px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(148px,1fr));gap:12px;margin:28px 0}
.tile{background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:14px}
.tile b{display:block;font-size:25px;line-height:1.2;font-variant-numeric:tabular-nums;white-space:nowrap}
.tile span{color:var(--soft);font-size:12.5px}.tile.good b{color:var(--good)}.tile.bad b{color:var(--bad)}
.notes{background:var(--card);border:1px solid var(--rule);border-left:4px solid var(--c2);border-radius:6px;
margin:20px 0 0;padding:10px 16px 10px 32px;overflow-wrap:anywhere}
.goals{display:flex;flex-wrap:wrap;gap:8px;list-style:none;margin:14px 0 0;padding:0;font-size:15px}
.goals li{border:1px solid currentColor;border-radius:99px;padding:1px 12px}.goals .good{color:var(--good)}
.goals .bad{color:var(--bad)}
figure{background:var(--card);border:1px solid var(--rule);border-radius:10px;
margin:0 0 16px;padding:18px 18px 12px}
figcaption{display:flex;flex-wrap:wrap;align-items:baseline;gap:2px 16px;margin-bottom:4px}
figcaption p{margin:0;color:var(--soft);font-size:14px}
figcaption ul{display:flex;gap:16px;list-style:none;margin:0 0 0 auto;padding:0;font-size:14px}
figcaption li::before{content:"";display:inline-block;width:14px;height:3px;border-radius:2px;margin-right:6px;
vertical-align:middle;background:var(--c)}
.c1{--c:var(--c1)}.c2{--c:var(--c2)}.c3{--c:var(--c3)}
.plot{display:block;font:12.5px system-ui,sans-serif;font-variant-numeric:tabular-nums}
.grid{stroke:var(--rule)}.axis{stroke:var(--soft)}.ticks{fill:var(--soft)}
.line{stroke:var(--c);stroke-linejoin:round}.area{fill:var(--c);opacity:.14}
.tip line{stroke:var(--soft);stroke-dasharray:3 3}.tip circle{fill:var(--c);stroke:var(--card);stroke-width:1.5}
.tip text{fill:var(--ink);text-anchor:end}.tip:hover g{visibility:visible}
summary{color:var(--soft);font-size:14px;cursor:pointer}
details div{max-height:320px;overflow:auto}details table{width:auto}details td{padding-right:28px;white-space:nowrap}
.tables{display:grid;grid-template-columns:repeat(auto-fit,minmax(290px,1fr));gap:16px}
.tables div{background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:18px;min-width:0}
table{border-collapse:collapse;width:100%;margin-top:8px;font-size:14.5px}
th,td{padding:4px 0;text-align:left;vertical-align:top;border-top:1px solid var(--rule)}tr:first-child>*{border-top:0}
th{font-weight:400;color:var(--soft);padding-right:14px;white-space:nowrap}
td{font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
@media(max-width:640px){main{padding:20px 12px 40px}figure,.tables div{padding-left:12px;padding-right:12px}}
@media(max-width:380px){.ticks{font-size:10px}}
"""

_MARGINS = f".plot{{margin:{TOP}px {RIGHT}px 0 {LEFT}px;width:calc(100% - {LEFT + RIGHT}px)}}"
STYLE = _RULES + _MARGINS
POLICY = f"default-src 'none'; style-src 'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'"
