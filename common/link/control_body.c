// SPDX-License-Identifier: Apache-2.0
// The bodies of control requests and answers: reading one by a table of members, and saying that something failed.
#include "base/names.h"
#include "link/control.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

enum { TEXT_MAX = 4095, ARRAY_MAX = 4095 };

static unsigned status_of(int code)
{
	switch (-code) {
	case EINVAL:
	case EBADMSG:
	case ENAMETOOLONG:
		return 400;
	case EPERM:
	case EACCES:
		return 403;
	case ENOENT:
		return 404;
	case EEXIST:
	case EBUSY:
	case EALREADY:
	case ESTALE:
	case EUCLEAN:
		return 409;
	case ENOTCONN:
	case ECONNREFUSED:
	case ECONNRESET:
	case ETIMEDOUT:
	case EHOSTUNREACH:
	case ENETUNREACH:
		return 503;
	case ENOSPC:
		return 507;
	default:
		return 500;
	}
}

unsigned control_fail(json_t **ret_body, int code, const char *text)
{
	const char *name = strerrorname_np(-code);
	json_t *message = json_string(text);
	if (!message) // not UTF-8: a path may hold any bytes
		message = json_string("the message is not UTF-8: see the daemon's log");
	*ret_body = json_pack("{s:{s:s, s:o}}", "error", "code", name ? name : "EIO", "message", message);
	return status_of(code);
}

void control_text(const struct control_request *request, const char *type, char *text)
{
	struct control_request *own = (struct control_request *)(uintptr_t)request; // the server's, which has these two for us
	own->text = text;
	own->text_type = type;
}

// --- the body of a request ---

static const struct control_member *member_find(const struct control_member *members, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(members[i].name, name) == 0)
			return &members[i];
	return NULL;
}

// Says that `value` is outside the limits; `what` is "" for the value itself, or what is counted.
static int check_limits(const struct control_member *m, uint64_t value, uint64_t bound, const char *what, struct err *err)
{
	uint64_t most = m->most ? m->most : bound;
	if (value >= m->least && value <= most)
		return 0;
	return err_set(err, -EINVAL, "\"%s\" must be %ju to %ju%s, not %ju", m->name, (uintmax_t)m->least, (uintmax_t)most, what,
		       (uintmax_t)value);
}

static int read_text(const struct control_member *m, const json_t *value, struct err *err)
{
	if (!json_is_string(value))
		return err_set(err, -EINVAL, "\"%s\" must be a string", m->name);
	const char *text = json_string_value(value);
	if (m->is_name && !name_ok(text))
		return err_set(err, -EINVAL, "\"%s\": \"%.80s\" is not allowed: %s", m->name, text, NAME_RULE);
	int rc = check_limits(m, json_string_length(value), TEXT_MAX, " bytes long", err);
	if (!rc)
		*m->text = text;
	return rc;
}

static int read_number(const struct control_member *m, const json_t *value, struct err *err)
{
	if (!json_is_integer(value) || json_integer_value(value) < 0)
		return err_set(err, -EINVAL, "\"%s\" must be an integer, 0 or more", m->name);
	uint64_t number = (uint64_t)json_integer_value(value);
	int rc = check_limits(m, number, UINT64_MAX, "", err);
	if (!rc)
		*m->number = number;
	return rc;
}

static int read_array(const struct control_member *m, json_t *value, struct err *err)
{
	if (!json_is_array(value))
		return err_set(err, -EINVAL, "\"%s\" must be an array", m->name);
	int rc = check_limits(m, json_array_size(value), ARRAY_MAX, " elements", err);
	if (!rc)
		*m->array = value;
	return rc;
}

static int read_flag(const struct control_member *m, const json_t *value, struct err *err)
{
	if (!json_is_boolean(value))
		return err_set(err, -EINVAL, "\"%s\" must be true or false", m->name);
	*m->flag = json_is_true(value);
	return 0;
}

static int read_member(const struct control_member *m, json_t *value, struct err *err)
{
	assert(!!m->text + !!m->number + !!m->array + !!m->flag == 1);
	if (!value || json_is_null(value))
		return m->required ? err_set(err, -EINVAL, "\"%s\" is missing", m->name) : 0;
	if (m->text)
		return read_text(m, value, err);
	if (m->number)
		return read_number(m, value, err);
	return m->array ? read_array(m, value, err) : read_flag(m, value, err);
}

static int read_object(const json_t *object, const struct control_member *members, size_t count, const char *unknown, struct err *err)
{
	if (!json_is_object(object))
		return err_set(err, -EINVAL, "a JSON object is expected");
	const char *name;
	const json_t *value;
	json_object_foreach((json_t *)(uintptr_t)object, name, value)
		if (!member_find(members, count, name))
			return err_set(err, -EINVAL, "\"%.80s\" is %s", name, unknown);
	for (size_t i = 0; i < count; i++) {
		int rc = read_member(&members[i], json_object_get(object, members[i].name), err);
		if (rc)
			return rc;
	}
	return 0;
}

int control_read(const json_t *object, const struct control_member *members, size_t count, struct err *err)
{
	return read_object(object, members, count, "not a member of this request", err);
}

int control_read_file(const json_t *object, const struct control_member *members, size_t count, struct err *err)
{
	const struct control_member *version = member_find(members, count, "version");
	const json_t *found = json_object_get(object, "version");
	if (version && json_is_integer(found) && json_integer_value(found) > (json_int_t)version->most)
		return err_set(err, -EINVAL, "it is of version %lld, and this program reads up to %ju: a newer version of kagami wrote it, so use that one",
			       (long long)json_integer_value(found), (uintmax_t)version->most);
	return read_object(object, members, count, "no member that such a file has: it is misspelt, or was put there by hand", err);
}
