// SPDX-License-Identifier: Apache-2.0
// Metrics as text: both formats to the letter, and any text as a label or a help. What Prometheus makes of it: tests/e2e/test-metrics.sh.
#include "link/openmetrics.h"
#include "link/status_metrics.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void finish_is(struct openmetrics *m, const char *want)
{
	size_t length = 0;
	char *text = openmetrics_finish(m, &length);
	assert_non_null(text);
	assert_string_equal(text, want);
	assert_int_equal(length, strlen(want));
	free(text);
}

static void fill(struct openmetrics *m, enum openmetrics_format format)
{
	const struct openmetrics_label labels[] = {{"protection", "vm1"}, {"disk", "vda"}};
	openmetrics_init(m, format);
	openmetrics_family(m, "x_bytes", OPENMETRICS_COUNTER, "bytes", "Bytes.");
	openmetrics_value(m, labels, 2, 17);
	openmetrics_family(m, "x_seconds", OPENMETRICS_GAUGE, "seconds", "Age.");
	openmetrics_value(m, labels, 1, -0.25);
	openmetrics_family(m, "x_build", OPENMETRICS_INFO, "", "What it is.");
	openmetrics_value(m, labels, 1, 1);
	openmetrics_family(m, "x_hold_seconds", OPENMETRICS_HISTOGRAM, "seconds", "Holds.");
	openmetrics_bucket(m, labels, 1, 1e-6, 2);
	openmetrics_bucket(m, labels, 1, 16, 3);
	openmetrics_bucket(m, labels, 1, INFINITY, 4);
	openmetrics_total(m, labels, 1, 4, 33.5);
}

static void openmetrics_text_is_as_the_standard_has_it(void **state)
{
	(void)state;
	struct openmetrics m;
	fill(&m, OPENMETRICS_1_0);
	finish_is(&m, "# TYPE x_bytes counter\n# UNIT x_bytes bytes\n# HELP x_bytes Bytes.\n"
		      "x_bytes_total{protection=\"vm1\",disk=\"vda\"} 17\n"
		      "# TYPE x_seconds gauge\n# UNIT x_seconds seconds\n# HELP x_seconds Age.\n"
		      "x_seconds{protection=\"vm1\"} -0.25\n"
		      "# TYPE x_build info\n# HELP x_build What it is.\n"
		      "x_build_info{protection=\"vm1\"} 1\n"
		      "# TYPE x_hold_seconds histogram\n# UNIT x_hold_seconds seconds\n# HELP x_hold_seconds Holds.\n"
		      "x_hold_seconds_bucket{protection=\"vm1\",le=\"1e-06\"} 2\n"
		      "x_hold_seconds_bucket{protection=\"vm1\",le=\"16.0\"} 3\n"
		      "x_hold_seconds_bucket{protection=\"vm1\",le=\"+Inf\"} 4\n"
		      "x_hold_seconds_count{protection=\"vm1\"} 4\nx_hold_seconds_sum{protection=\"vm1\"} 33.5\n"
		      "# EOF\n");
}

static void older_text_names_families_as_their_samples(void **state)
{
	(void)state;
	struct openmetrics m;
	fill(&m, OPENMETRICS_TEXT_0_0_4);
	finish_is(&m, "# TYPE x_bytes_total counter\n# HELP x_bytes_total Bytes.\n"
		      "x_bytes_total{protection=\"vm1\",disk=\"vda\"} 17\n"
		      "# TYPE x_seconds gauge\n# HELP x_seconds Age.\n"
		      "x_seconds{protection=\"vm1\"} -0.25\n"
		      "# TYPE x_build_info gauge\n# HELP x_build_info What it is.\n"
		      "x_build_info{protection=\"vm1\"} 1\n"
		      "# TYPE x_hold_seconds histogram\n# HELP x_hold_seconds Holds.\n"
		      "x_hold_seconds_bucket{protection=\"vm1\",le=\"1e-06\"} 2\n"
		      "x_hold_seconds_bucket{protection=\"vm1\",le=\"16.0\"} 3\n"
		      "x_hold_seconds_bucket{protection=\"vm1\",le=\"+Inf\"} 4\n"
		      "x_hold_seconds_count{protection=\"vm1\"} 4\nx_hold_seconds_sum{protection=\"vm1\"} 33.5\n");
}

static void every_text_is_escaped(void **state)
{
	(void)state;
	struct openmetrics m;
	const struct openmetrics_label label = {"text", "a\"b\\c\nd\xc3\xa4\xff\xe0\x80\x80\xed\xa0\x80"};
	openmetrics_init(&m, OPENMETRICS_1_0);
	openmetrics_family(&m, "x", OPENMETRICS_GAUGE, "", "Say \"it\".\n# EOF");
	openmetrics_value(&m, &label, 1, NAN);
	finish_is(&m, "# TYPE x gauge\n# HELP x Say \\\"it\\\".\\n# EOF\nx{text=\"a\\\"b\\\\c\\nd\xc3\xa4???????\"} NaN\n# EOF\n");
}

static void numbers_lose_nothing_that_counts(void **state)
{
	(void)state;
	static const struct {
		double value;
		const char *text;
	} cases[] = {{0, "0"}, {1e14, "100000000000000"}, {0.001, "0.001"}, {INFINITY, "+Inf"}, {-INFINITY, "-Inf"}, {1e300, "1e+300"}, {123456.789, "123456.789"}};
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct openmetrics m;
		char want[100];
		openmetrics_init(&m, OPENMETRICS_1_0);
		openmetrics_family(&m, "x", OPENMETRICS_GAUGE, "", "X.");
		openmetrics_value(&m, NULL, 0, cases[i].value);
		(void)snprintf(want, sizeof(want), "# TYPE x gauge\n# HELP x X.\nx %s\n# EOF\n", cases[i].text);
		finish_is(&m, want);
	}
}

static void format_is_what_the_caller_accepts(void **state)
{
	(void)state;
	static const char *const plain[] = {"", "*/*", "text/plain", "text/plain;version=0.0.4", "text/*", "application/*", "application/json", "openmetrics", ",;,",
					    "text/html, */*;q=0.8", "application/openmetrics-textual", "application/x;y=application/openmetrics-text",
					    "application/openmetrics-text;q=0", "application/openmetrics-text; version=1.0.0; q=0.000, */*"};
	static const char *const standard[] = {"application/openmetrics-text", "Application/OpenMetrics-Text; version=1.0.0", "text/plain;q=0.5 ,\tapplication/openmetrics-text ;q=0.01",
					       "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"};
	assert_true(openmetrics_accepted(NULL) == OPENMETRICS_TEXT_0_0_4);
	for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++)
		if (openmetrics_accepted(plain[i]) != OPENMETRICS_TEXT_0_0_4)
			fail_msg("\"%s\" is answered in OpenMetrics", plain[i]);
	for (size_t i = 0; i < sizeof(standard) / sizeof(standard[0]); i++)
		if (openmetrics_accepted(standard[i]) != OPENMETRICS_1_0)
			fail_msg("\"%s\" is not answered in OpenMetrics", standard[i]);
}

static void status_without_a_value_has_no_sample(void **state)
{
	(void)state;
	static const struct status_metric table[] = {
		{"n_seconds", OPENMETRICS_GAUGE, "seconds", "N.", STATUS_NUMBER, "a.b", 1e-3, NULL},
		{"missed_seconds", OPENMETRICS_COUNTER, "seconds", "M.", STATUS_BY, "by", 1e-3, "cause"},
		{"state", OPENMETRICS_GAUGE, "", "S.", STATUS_TEXT, "s", 1, "state"},
		{"reads", OPENMETRICS_COUNTER, "", "R.", STATUS_DISKS, "reads", 1, NULL},
		{"up", OPENMETRICS_GAUGE, "", "U.", STATUS_COUNT, "on", 1, NULL},
	};
	json_t *list = json_loads("[{\"name\": \"vm1\", \"a\": {\"b\": 1500}, \"by\": {\"network\": 2000}, \"s\": \"idle\", \"on\": true,"
				  " \"disks\": [{\"name\": \"vda\", \"reads\": 3}]},"
				  " {\"name\": \"vm2\", \"a\": null, \"by\": {}, \"on\": false, \"disks\": []}, {\"name\": \"vm3\", \"a\": {\"b\": null}, \"s\": null}]",
				  0, NULL);
	struct openmetrics m;
	assert_non_null(list);
	openmetrics_init(&m, OPENMETRICS_1_0);
	status_metrics(&m, table, sizeof(table) / sizeof(table[0]), list);
	finish_is(&m, "# TYPE n_seconds gauge\n# UNIT n_seconds seconds\n# HELP n_seconds N.\nn_seconds{protection=\"vm1\"} 1.5\n"
		      "# TYPE missed_seconds counter\n# UNIT missed_seconds seconds\n# HELP missed_seconds M.\n"
		      "missed_seconds_total{protection=\"vm1\",cause=\"network\"} 2\n"
		      "# TYPE state gauge\n# HELP state S.\nstate{protection=\"vm1\",state=\"idle\"} 1\n"
		      "# TYPE reads counter\n# HELP reads R.\nreads_total{protection=\"vm1\",disk=\"vda\"} 3\n"
		      "# TYPE up gauge\n# HELP up U.\nup 1\n# EOF\n");
	json_decref(list);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(openmetrics_text_is_as_the_standard_has_it),
		cmocka_unit_test(older_text_names_families_as_their_samples),
		cmocka_unit_test(every_text_is_escaped),
		cmocka_unit_test(numbers_lose_nothing_that_counts),
		cmocka_unit_test(format_is_what_the_caller_accepts),
		cmocka_unit_test(status_without_a_value_has_no_sample),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
