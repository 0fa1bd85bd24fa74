// SPDX-License-Identifier: Apache-2.0
#include "link/telling.h"

#include "base/log.h"
#include "link/alerts.h"

#include <errno.h>
#include <stdlib.h>

struct telling {
	struct web *metrics, *web;
	struct alerts *alerts;
};

static int start(struct telling *t, const struct telling_options *options, const struct web_config *config, struct err *err)
{
	struct web_config metrics = *config, web = *config;
	const struct alerts_config alerts = {.hooks = options->hooks, .webhook = options->webhook};
	metrics.option = "--metrics";
	metrics.address = options->metrics;
	metrics.metrics_only = true;
	metrics.asset_count = 0;
	web.option = "--web";
	web.address = options->web;
	web.token_file = options->web_token;
	if (options->web_token && !options->web)
		return err_set(err, -EINVAL, "--web-token needs --web ADDR:PORT");
	int rc = options->metrics ? web_start(&metrics, &t->metrics, err) : 0;
	if (rc == 0 && options->web)
		rc = web_start(&web, &t->web, err);
	return rc ? rc : alerts_start(&alerts, &t->alerts, err);
}

int telling_start(const struct telling_options *options, const struct control_route *routes, size_t count, void *context, const struct web_asset *assets,
		  size_t asset_count, struct telling **ret_telling, struct err *err)
{
	const struct web_config config = {.routes = routes, .route_count = count, .context = context, .assets = assets, .asset_count = asset_count};
	struct telling *t = calloc(1, sizeof(*t));
	int rc = t ? start(t, options, &config, err) : err_sys(err, -ENOMEM, "start");
	if (rc) {
		telling_stop(t);
		return rc;
	}
	if (t->metrics)
		log_info("metrics are served address=%s", web_address(t->metrics));
	if (t->web)
		log_info("the web page is served address=%s token=%s", web_address(t->web), options->web_token ? "yes" : "no");
	*ret_telling = t;
	return 0;
}

void telling_stop(struct telling *t)
{
	if (!t)
		return;
	web_stop(t->web);
	web_stop(t->metrics);
	alerts_stop(t->alerts);
	free(t);
}
