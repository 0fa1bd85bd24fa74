#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# metrics_named.py METRICS... -- FILE...: reads OpenMetrics texts with the parser of prometheus_client, which refuses what the standard does, and checks
# that each name kagami_... in the files (a dashboard, alert rules) is one of a family in the texts.
import re, sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families

at = sys.argv.index("--")
names, families = set(), 0
for path in sys.argv[1:at]:
    for family in text_string_to_metric_families(open(path, encoding="utf-8").read()):
        families += 1
        suffixes = {"counter": ["_total"], "info": ["_info"], "histogram": ["_bucket", "_count", "_sum"]}.get(family.type, [""])
        names.update(family.name + suffix for suffix in suffixes)
missing = []
for path in sys.argv[at + 1:]:
    text = open(path, encoding="utf-8").read()
    found = set(re.findall(r"\bkagami_[a-z0-9_]+", text)) - {"kagami_token"}
    if not found:
        missing.append(f"{path}: names no metric at all")
    missing += [f"{path}: {name}" for name in sorted(found - names)]
if missing:
    sys.exit("not in the output: " + "; ".join(missing))
print(families)
