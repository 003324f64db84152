"""The look of a report's page.

Stages have the colours of Okabe and Ito, which people see apart whatever their eyes;
idle time has greys and a hatching, so that it is told from work without any colour.
"""

from __future__ import annotations

from typing import Final

STYLE: Final = """
:root{color-scheme:light dark;
--ground:#fbfbfa;--card:#fff;--ink:#1b1f24;--dim:#5c6570;--line:#e4e6e8;--accent:#0b62a4;
--warn:#9a4a00;--warn-ground:#fff4e5;
--c0:#0072b2;--c1:#e69f00;--c2:#009e73;--c3:#cc79a7;--c4:#56b4e9;--c5:#d55e00;
--c6:#8f7d00;--c7:#6b5b95;--host:#8a929b;--wait:#c7ccd1;--other:#e2e5e8;--sync:#3c4650;
--compile:#7a1f1f;--hatch:#b3402e;--hatch-ground:#f7e4e0}
@media (prefers-color-scheme:dark){:root{
--ground:#14171b;--card:#1c2026;--ink:#e8eaed;--dim:#9aa4af;--line:#2d333b;
--accent:#6cb6ff;--warn:#ffb86b;--warn-ground:#33271a;
--c0:#3d9ad1;--c1:#f0b429;--c2:#2dbd91;--c3:#dd93bd;--c4:#7cc8f2;--c5:#f07a35;
--c6:#c9b31e;--c7:#9c8bd0;--host:#77808a;--wait:#4a525b;--other:#343b43;--sync:#c3ccd5;
--compile:#d46a6a;--hatch:#e0705c;--hatch-ground:#3a2320}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main,footer{max-width:1080px;margin:0 auto;padding:28px 20px}
main+main{border-top:3px solid var(--line)}
h1{font-size:22px;margin:0;overflow-wrap:anywhere}
h2{font-size:17px;margin:0 0 14px}h3{font-size:15px;margin:22px 0 4px}
.sub{color:var(--dim);margin:4px 0 18px;font-size:13px;overflow-wrap:anywhere}
.tiles{display:flex;flex-wrap:wrap;gap:10px}
.tile{background:var(--card);border:1px solid var(--line);border-radius:10px;
padding:10px 16px;min-width:112px}
.tile b{display:block;font-size:21px;font-variant-numeric:tabular-nums;
white-space:nowrap}
.tile span{color:var(--dim);font-size:12.5px}
section{background:var(--card);border:1px solid var(--line);border-radius:12px;
padding:20px 22px;margin-top:18px}
.words{border-left:5px solid var(--accent)}
.words:has(.first.limit){border-left-color:var(--warn);background:var(--warn-ground)}
.words p.first{font-size:19px;line-height:1.4;font-weight:600;margin:0;
overflow-wrap:anywhere}
.words ul{margin:12px 0 0;padding:0;list-style:none}
.words li{padding:5px 0 5px 24px;position:relative;overflow-wrap:anywhere}
.words li::before{position:absolute;left:0;width:18px;text-align:center;font-weight:700}
.words li.bound::before{content:"→";color:var(--accent)}
.words li.help::before{content:"+";color:var(--c2)}
.words li.odd::before{content:"!";color:var(--c5)}
.words li.limit::before{content:"?";color:var(--warn)}
.chart{display:grid;grid-template-columns:auto 1fr;gap:10px}
.chart svg{width:100%;height:260px;display:block}
.axis{display:flex;flex-direction:column;justify-content:space-between;text-align:right;
color:var(--dim);font-size:12px;font-variant-numeric:tabular-nums;margin:-7px 0}
.grid{stroke:var(--line);stroke-width:1;vector-effect:non-scaling-stroke}
.ends{display:flex;justify-content:space-between;color:var(--dim);font-size:12px;
margin:4px 0 0 56px}.ends.inset{margin-left:136px}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:4px 18px;padding:0;
margin:14px 0 0;font-size:13px}
.legend li{overflow-wrap:anywhere}
.legend i,.dot{display:inline-block;width:11px;height:11px;border-radius:3px;
margin-right:7px;vertical-align:-1px}
.note{color:var(--dim);font-size:13px;margin:12px 0 0;overflow-wrap:anywhere}
.lanes{display:grid;gap:5px}
.lane{display:grid;grid-template-columns:126px 1fr;gap:10px;align-items:center}
.lane span{font-size:12.5px;color:var(--dim);text-align:right;overflow:hidden;
text-overflow:ellipsis;white-space:nowrap}
.lane svg{width:100%;height:26px;display:block;background:var(--ground);
border-radius:4px}
.path,.mark{fill:var(--ink)}
.role{display:grid;grid-template-columns:126px 1fr 92px;gap:12px;align-items:center;
margin:9px 0}
.role small{display:block;color:var(--dim)}.role b{font-variant-numeric:tabular-nums}
.role b small{display:inline;font-weight:400}
.bar{display:flex;height:26px;border-radius:5px;overflow:hidden;background:var(--ground)}
.bar i{display:block;height:100%;min-width:1px}.bar.thin{height:12px}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:13.5px}
th{text-align:left;color:var(--dim);font-weight:500;border-bottom:1px solid var(--line);
padding:5px 10px 5px 0}
td{padding:5px 10px 5px 0;border-bottom:1px solid var(--line);vertical-align:top;
overflow-wrap:anywhere}
tr:last-child td{border-bottom:0}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.dim{color:var(--dim)}.wide{width:38%}
.scroll td:first-child{min-width:9em}td:has(.dot){min-width:17em}
tr.odd td:first-child{font-weight:700;color:var(--c5)}
.curves{display:grid;grid-template-columns:repeat(auto-fill,minmax(220px,1fr));gap:16px}
figure{margin:0}figcaption{display:flex;justify-content:space-between;font-size:13px;
gap:10px;overflow-wrap:anywhere}
figure svg{width:100%;height:56px;display:block}figure small{color:var(--dim)}
polyline{fill:none;stroke:var(--c0);stroke-width:2;vector-effect:non-scaling-stroke}
a{color:var(--accent)}code{font-size:12.5px;overflow-wrap:anywhere}
details{margin-top:18px;color:var(--dim)}summary{cursor:pointer}
footer{color:var(--dim);font-size:12.5px;padding-top:0}
.c0{fill:var(--c0);background:var(--c0)}.c1{fill:var(--c1);background:var(--c1)}
.c2{fill:var(--c2);background:var(--c2)}.c3{fill:var(--c3);background:var(--c3)}
.c4{fill:var(--c4);background:var(--c4)}.c5{fill:var(--c5);background:var(--c5)}
.c6{fill:var(--c6);background:var(--c6)}.c7{fill:var(--c7);background:var(--c7)}
i.host{background:var(--host)}i.wait{background:var(--wait)}
i.other{background:var(--other)}i.sync{background:var(--sync)}
i.compile{background:var(--compile)}
rect.unaccounted{fill:url(#hatch)}
i.unaccounted{background:repeating-linear-gradient(45deg,var(--hatch) 0 2px,
var(--hatch-ground) 2px 6px)}
.hatch-ground{fill:var(--hatch-ground)}.hatch-line{fill:var(--hatch)}
@media (max-width:620px){main,footer{padding:18px 12px}section{padding:16px 14px}
.role{grid-template-columns:1fr 76px}.role .bar{grid-column:1/-1;grid-row:2}
.lane{grid-template-columns:72px 1fr}.ends.inset{margin-left:82px}
.chart svg{height:200px}.words p.first{font-size:17px}.wide{display:none}}
@media print{section{break-inside:avoid}}
"""

PATTERNS: Final = (
    "<svg width='0' height='0' style='position:absolute' aria-hidden='true'><defs>"
    "<pattern id='hatch' width='6' height='6' patternUnits='userSpaceOnUse' "
    "patternTransform='rotate(45)'><rect width='6' height='6' class='hatch-ground'/>"
    "<rect width='2' height='6' class='hatch-line'/></pattern></defs></svg>"
)
"""What the style sheet refers to by `url(#hatch)`."""
