"""The style of the report."""

STYLE = """
:root{color-scheme:light dark;--back:#f7f7f4;--card:#fff;--ink:#1c1f23;--soft:#6a7078;--rule:#e4e4de;
--c1:#2563c9;--c2:#d9730d;--c3:#b03a5b;--good:#23804a;--bad:#c0262d}
@media(prefers-color-scheme:dark){:root{--back:#14171b;--card:#1c2026;--ink:#e8eaed;--soft:#99a1ab;--rule:#2d333b;
--c1:#6ea8ff;--c2:#f3a04b;--c3:#ef7d9d;--good:#5bc88a;--bad:#ff6b6b}}
*{box-sizing:border-box}body{margin:0;background:var(--back);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1040px;margin:0 auto;padding:40px 20px 64px}
header p{margin:0;color:var(--soft)}h1{margin:4px 0;font-size:30px;line-height:1.2;overflow-wrap:anywhere}
header .load{font-size:17px}h2{margin:0;font-size:17px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(148px,1fr));gap:12px;margin:28px 0}
.tile{background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:14px 16px}
.tile b{display:block;font-size:25px;line-height:1.2;font-variant-numeric:tabular-nums;white-space:nowrap}
.tile span{color:var(--soft);font-size:14px}.tile.good b{color:var(--good)}.tile.bad b{color:var(--bad)}
.notes{background:var(--card);border:1px solid var(--rule);border-left:4px solid var(--c2);border-radius:6px;
margin:20px 0 0;padding:10px 16px 10px 32px;overflow-wrap:anywhere}
figure{background:var(--card);border:1px solid var(--rule);border-radius:10px;margin:0 0 16px;padding:18px 18px 8px}
figcaption{display:flex;flex-wrap:wrap;align-items:baseline;gap:2px 16px;margin-bottom:10px}
figcaption p{margin:0;color:var(--soft);font-size:14px}
figcaption ul{display:flex;gap:16px;list-style:none;margin:0 0 0 auto;padding:0;font-size:14px}
figcaption li::before{content:"";display:inline-block;width:14px;height:3px;border-radius:2px;margin-right:6px;
vertical-align:middle;background:var(--c)}
.c1{--c:var(--c1)}.c2{--c:var(--c2)}.c3{--c:var(--c3)}
svg{display:block;width:100%;height:auto;font:12.5px system-ui,sans-serif}
.grid{stroke:var(--rule)}.axis,.notch{stroke:var(--soft)}.tick{fill:var(--soft);font-variant-numeric:tabular-nums}
.end{text-anchor:end}.mid{text-anchor:middle}
.line{fill:none;stroke:var(--c);stroke-width:2;stroke-linejoin:round}.area{fill:var(--c);opacity:.14}
.tip rect{fill:transparent}.tip line{stroke:var(--soft);stroke-dasharray:3 3;visibility:hidden}
.tip:hover line{visibility:visible}
.tables{display:grid;grid-template-columns:repeat(auto-fit,minmax(290px,1fr));gap:16px}
.tables div{background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:18px;min-width:0}
table{border-collapse:collapse;width:100%;margin-top:8px;font-size:14.5px}
th,td{padding:4px 0;text-align:left;vertical-align:top;border-top:1px solid var(--rule)}tr:first-child>*{border-top:0}
th{font-weight:400;color:var(--soft);padding-right:14px;white-space:nowrap}
td{font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
"""
