#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# metrics_sampled.py DOC SOURCE TARGET: each metric that the document's section "Metrics" names for a side (R: target, S: source) has a sample in that
# side's OpenMetrics text, and each label that it names is there; and neither text has a family that the document does not name. Prints how many.
import re, sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families

doc, source, target = sys.argv[1:]
section = re.search(r"^## Metrics$(.*?)^## ", open(doc, encoding="utf-8").read(), re.S | re.M).group(1)
block = "\n".join(line for line in section.splitlines() if line.startswith("    "))
# A name, its labels, a remark in brackets, and the sides; a name may stand for several: kagami_disk_{reads,writes}_total{disk}.
entry = re.compile(r"(kagami_[a-z_]+(?:\{[a-z,]+\}_[a-z_]+)?)(?:\{([a-z,]+)\})?(?: \([^)]*\))?   ((?:R S|R|S)\b)")
samples = {}
families = {}
for side, path in (("S", source), ("R", target)):
    samples[side] = {}
    families[side] = set()
    for family in text_string_to_metric_families(open(path, encoding="utf-8").read()):
        families[side].add(family.name)
        for sample in family.samples:
            samples[side].setdefault(sample.name, set()).update(sample.labels)

wrong, count, told = [], 0, {"S": set(), "R": set()}
for name, labels, sides in entry.findall(block):
    several = re.fullmatch(r"(.*)\{(.*)\}(.*)", name)
    for one in [several[1] + part + several[3] for part in several[2].split(",")] if several else [name]:
        for side in sides.split():
            count += 1
            told[side].add(re.sub(r"_(total|info)$", "", one))
            found = samples[side].get(one, samples[side].get(one + "_count"))
            if found is None:
                wrong.append(f"{one} has no sample at the {'source' if side == 'S' else 'target'}")
            elif not set(labels.split(",") if labels else []) <= found:
                wrong.append(f"{one} has labels {sorted(found)}, not {labels}")
for side, names in families.items():
    wrong += [f"{name} is not documented for {side}" for name in sorted(names - told[side])]
if wrong or count < 60:
    sys.exit(f"{count} documented: " + "; ".join(wrong))
print(count)
