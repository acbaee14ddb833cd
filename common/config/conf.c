/* One table, made from options.def, says everything there is to know about an option: where its field is in
 * struct conf, its type, default, limits and text. Loading walks what libconfig has parsed and looks every
 * name up in the table, so that an unknown name is always a mistake with a line; writing walks the table. */
#include "common/config/conf.h"

#include <libconfig.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

enum kind { KIND_BOOL, KIND_INT, KIND_TEXT, KIND_LIST, KIND_CHOICE };

struct option {
    const char *section;
    const char *name;
    enum kind kind;
    size_t offset; /* of the field in struct conf */
    const char *doc;
    int64_t initial; /* BOOL, INT, CHOICE (index) */
    int64_t low;     /* INT */
    int64_t high;
    const char *text;    /* TEXT, LIST: the default */
    const char *choices; /* CHOICE: a|b|c */
};

/* clang-format off */
#define ROW_BOOL(initial_, low_, high_)   .initial = (initial_)
#define ROW_INT(initial_, low_, high_)    .initial = (initial_), .low = (low_), .high = (high_)
#define ROW_TEXT(initial_, low_, high_)   .text = (initial_)
#define ROW_LIST(initial_, low_, high_)   .text = (initial_)
#define ROW_CHOICE(initial_, low_, high_) .initial = (initial_), .choices = (high_)

static const struct option options[] = {
#define OPTION(section_, name_, type_, initial_, low_, high_, doc_)                                     \
    {.section = #section_, .name = #name_, .kind = KIND_##type_,                                        \
     .offset = offsetof(struct conf, section_##_##name_), .doc = (doc_), ROW_##type_(initial_, low_, high_)},
#include "common/config/options.def"
#undef OPTION
};
/* clang-format on */

#define OPTION_EACH(o) for (const struct option *o = options; o < options + ARRAY_LEN(options); o++)

static void *field_of(struct conf *c, const struct option *o)
{
    return (char *)c + o->offset;
}

static const void *value_of(const struct conf *c, const struct option *o)
{
    return (const char *)c + o->offset;
}

/* Lists */

static void list_clear(struct conf_list *l)
{
    for (unsigned i = 0; i < l->count; i++)
        free(l->items[i]);
    free(l->items);
    *l = (struct conf_list){NULL, 0};
}

static void list_append(struct conf_list *l, struct span item)
{
    l->items = xrealloc(l->items, (l->count + 1) * sizeof *l->items);
    l->items[l->count++] = span_dup(item);
}

static struct span trim(struct span s)
{
    while (s.n > 0 && (s.p[0] == ' ' || s.p[0] == '\t'))
        s.p++, s.n--;
    while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
        s.n--;
    return s;
}

/* Splits at commas; empty items are dropped, so "" is the empty list. */
static void list_split(struct conf_list *l, const char *text)
{
    list_clear(l);
    for (struct span rest = span_of(text); rest.n > 0;) {
        struct span item = trim(span_cut(&rest, ','));
        if (item.n > 0)
            list_append(l, item);
    }
}

/* Defaults */

static void set_default(struct conf *c, const struct option *o)
{
    void *field = field_of(c, o);
    switch (o->kind) {
    case KIND_BOOL:
        *(bool *)field = o->initial != 0;
        break;
    case KIND_INT:
        *(int64_t *)field = o->initial;
        break;
    case KIND_TEXT:
        *(char **)field = xstrdup(o->text);
        break;
    case KIND_LIST:
        list_split(field, o->text);
        break;
    case KIND_CHOICE:
        *(int *)field = (int)o->initial;
        break;
    }
}

struct conf *conf_new(void)
{
    struct conf *c = xcalloc(1, sizeof *c);
    OPTION_EACH(o)
    set_default(c, o);
    return c;
}

void conf_free(struct conf *c)
{
    if (c == NULL)
        return;
    OPTION_EACH(o)
    {
        if (o->kind == KIND_TEXT)
            free(*(char **)field_of(c, o));
        else if (o->kind == KIND_LIST)
            list_clear(field_of(c, o));
    }
    free(c);
}

/* What is allowed, in words: the same text in messages and in the written file. */
static void add_allowed(struct buf *out, const struct option *o)
{
    switch (o->kind) {
    case KIND_BOOL:
        buf_add_str(out, "true or false");
        break;
    case KIND_INT:
        buf_addf(out, "a whole number from %lld to %lld", (long long)o->low, (long long)o->high);
        break;
    case KIND_TEXT:
        buf_add_str(out, "a text in double quotes");
        break;
    case KIND_LIST:
        buf_add_str(out, "a list of texts: [\"a\", \"b\"]");
        break;
    case KIND_CHOICE:
        buf_add_str(out, "one of");
        for (struct span rest = span_of(o->choices); rest.n > 0;) {
            struct span choice = span_cut(&rest, '|');
            buf_addf(out, " \"%.*s\"", SPAN_FMT(choice));
        }
        break;
    }
}

static bool refuse(const struct option *o, const char *where, struct buf *errors)
{
    buf_addf(errors, "%s%s.%s must be ", where, o->section, o->name);
    add_allowed(errors, o);
    buf_add_char(errors, '\n');
    return false;
}

static struct span choice_text(const struct option *o, int index)
{
    struct span rest = span_of(o->choices);
    for (; index > 0; index--)
        span_cut(&rest, '|');
    return span_cut(&rest, '|');
}

static int choice_find(const struct option *o, struct span text)
{
    int index = 0;
    for (struct span rest = span_of(o->choices); rest.n > 0; index++)
        if (span_eq(span_cut(&rest, '|'), text))
            return index;
    return -1;
}

static void set_text(struct conf *c, const struct option *o, const char *text)
{
    char **field = field_of(c, o);
    char *fresh = xstrdup(text);
    free(*field);
    *field = fresh;
}

static bool set_int(struct conf *c, const struct option *o, int64_t value)
{
    if (value < o->low || value > o->high)
        return false;
    *(int64_t *)field_of(c, o) = value;
    return true;
}

static bool set_choice(struct conf *c, const struct option *o, struct span text)
{
    int index = choice_find(o, text);
    if (index < 0)
        return false;
    *(int *)field_of(c, o) = index;
    return true;
}

/* Reading a file */

struct loading {
    struct conf *c;
    const char *file;
    struct buf *errors;
    bool ok;
};

/* "FILE:LINE: " of a setting; an included file has its own name. */
static void format_where(const struct loading *l, const config_setting_t *s, char out[512])
{
    const char *file = config_setting_source_file(s);
    snprintf(out, 512, "%.480s:%u: ", file != NULL ? file : l->file, config_setting_source_line(s));
}

static bool load_list(struct conf *c, const struct option *o, config_setting_t *s)
{
    if (config_setting_type(s) == CONFIG_TYPE_STRING) {
        list_split(field_of(c, o), config_setting_get_string(s));
        return true;
    }
    if (!config_setting_is_array(s) && !config_setting_is_list(s))
        return false;
    struct conf_list fresh = {NULL, 0};
    for (int i = 0; i < config_setting_length(s); i++) {
        const char *item = config_setting_get_string_elem(s, i);
        if (item == NULL || *item == '\0') {
            list_clear(&fresh);
            return false;
        }
        list_append(&fresh, span_of(item));
    }
    list_clear(field_of(c, o));
    *(struct conf_list *)field_of(c, o) = fresh;
    return true;
}

static bool load_value(struct conf *c, const struct option *o, config_setting_t *s)
{
    int type = config_setting_type(s);
    switch (o->kind) {
    case KIND_BOOL:
        if (type == CONFIG_TYPE_BOOL)
            *(bool *)field_of(c, o) = config_setting_get_bool(s) != 0;
        return type == CONFIG_TYPE_BOOL;
    case KIND_INT:
        return (type == CONFIG_TYPE_INT || type == CONFIG_TYPE_INT64) &&
               set_int(c, o, config_setting_get_int64(s));
    case KIND_TEXT:
        if (type == CONFIG_TYPE_STRING)
            set_text(c, o, config_setting_get_string(s));
        return type == CONFIG_TYPE_STRING;
    case KIND_LIST:
        return load_list(c, o, s);
    case KIND_CHOICE:
        return type == CONFIG_TYPE_STRING && set_choice(c, o, span_of(config_setting_get_string(s)));
    }
    return false;
}

static const struct option *option_find(struct span section, struct span name)
{
    OPTION_EACH(o)
    {
        if (span_is(section, o->section) && span_is(name, o->name))
            return o;
    }
    return NULL;
}

/* Appends the names that would have been right: those of a section, or with NULL the sections. */
static void add_known(struct buf *out, const char *section)
{
    const char *last = "";
    OPTION_EACH(o)
    {
        const char *word = section != NULL ? o->name : o->section;
        if ((section != NULL && strcmp(section, o->section) != 0) || strcmp(last, word) == 0)
            continue;
        buf_addf(out, "%s%s", *last != '\0' ? ", " : "", word);
        last = word;
    }
    buf_add_char(out, '\n');
}

static const char *section_find(struct span name)
{
    OPTION_EACH(o)
    {
        if (span_is(name, o->section))
            return o->section;
    }
    return NULL;
}

static void load_section(struct loading *l, const char *section, config_setting_t *group)
{
    char where[512];
    for (int i = 0; i < config_setting_length(group); i++) {
        config_setting_t *s = config_setting_get_elem(group, (unsigned)i);
        struct span name = span_of(config_setting_name(s));
        const struct option *o = option_find(span_of(section), name);
        format_where(l, s, where);
        if (o == NULL) {
            buf_addf(l->errors, "%sunknown option %s.%.*s; section %s has: ", where, section, SPAN_FMT(name),
                     section);
            add_known(l->errors, section);
            l->ok = false;
        } else if (!load_value(l->c, o, s)) {
            l->ok = refuse(o, where, l->errors);
        }
    }
}

static void load_root(struct loading *l, config_setting_t *root)
{
    char where[512];
    for (int i = 0; i < config_setting_length(root); i++) {
        config_setting_t *s = config_setting_get_elem(root, (unsigned)i);
        struct span name = span_of(config_setting_name(s));
        const char *section = section_find(name);
        format_where(l, s, where);
        if (section == NULL) {
            buf_addf(l->errors, "%sunknown section %.*s; there are: ", where, SPAN_FMT(name));
            add_known(l->errors, NULL);
            l->ok = false;
        } else if (!config_setting_is_group(s)) {
            buf_addf(l->errors, "%s%s must be a section: %s: { name = value; };\n", where, section, section);
            l->ok = false;
        } else {
            load_section(l, section, s);
        }
    }
}

/* Takes over what libconfig has parsed (parsed != CONFIG_FALSE), or says why it could not. */
static bool load_parsed(struct conf *c, config_t *parsed_from, int parsed, const char *name,
                        struct buf *errors)
{
    struct loading l = {.c = c, .file = name, .errors = errors, .ok = true};
    if (parsed == CONFIG_FALSE) {
        const char *file = config_error_file(parsed_from);
        buf_addf(errors, "%s:%d: %s; the form is: section: { name = value; };\n", file != NULL ? file : name,
                 config_error_line(parsed_from), config_error_text(parsed_from));
        l.ok = false;
    } else {
        load_root(&l, config_root_setting(parsed_from));
    }
    return l.ok;
}

bool conf_load(struct conf *c, const char *file, struct buf *errors)
{
    FILE *f = fopen(file, "re");
    if (f == NULL) {
        buf_addf(errors, "%s: cannot be read: %m\n", file);
        return false;
    }
    config_t parsed_from;
    config_init(&parsed_from);
    int parsed = config_read(&parsed_from, f);
    bool ok = load_parsed(c, &parsed_from, parsed, file, errors);
    config_destroy(&parsed_from);
    fclose(f);
    return ok;
}

bool conf_load_text(struct conf *c, const char *text, const char *name, struct buf *errors)
{
    config_t parsed_from;
    config_init(&parsed_from);
    int parsed = config_read_string(&parsed_from, text);
    bool ok = load_parsed(c, &parsed_from, parsed, name, errors);
    config_destroy(&parsed_from);
    return ok;
}

/* One assignment */

/* True for a value as a file has it: a text in quotes or a list of such in brackets ("[::1]:5222" is
 * neither). */
static bool is_file_form(const char *text)
{
    text += strspn(text, " \t");
    if (*text != '[')
        return *text == '"';
    text += 1 + strspn(text + 1, " \t");
    return *text == '"' || *text == ']';
}

static bool set_from_file_form(struct conf *c, const struct option *o, const char *text)
{
    config_t parsed;
    struct buf line = {0};
    buf_addf(&line, "v = %s;", text);
    config_init(&parsed);
    bool ok = config_read_string(&parsed, buf_cstr(&line)) == CONFIG_TRUE &&
              config_setting_length(config_root_setting(&parsed)) == 1 &&
              load_value(c, o, config_lookup(&parsed, "v"));
    config_destroy(&parsed);
    buf_free(&line);
    return ok;
}

static bool set_from_text(struct conf *c, const struct option *o, const char *text)
{
    int64_t number;
    if (is_file_form(text))
        return set_from_file_form(c, o, text);
    switch (o->kind) {
    case KIND_BOOL:
        if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0)
            return false;
        *(bool *)field_of(c, o) = *text == 't';
        return true;
    case KIND_INT:
        return span_to_i64(span_of(text), o->low, o->high, &number) && set_int(c, o, number);
    case KIND_TEXT:
        set_text(c, o, text);
        return true;
    case KIND_LIST:
        list_split(field_of(c, o), text);
        return true;
    case KIND_CHOICE:
        return set_choice(c, o, span_of(text));
    }
    return false;
}

bool conf_set(struct conf *c, const char *assignment, struct buf *errors)
{
    struct span all = span_of(assignment);
    size_t equals = span_index(all, '=');
    struct span key = trim(span_sub(all, 0, equals));
    size_t dot = span_index(key, '.');
    if (equals == all.n || dot == key.n) {
        buf_addf(errors, "%s: the form is section.name=value\n", assignment);
        return false;
    }
    const char *section = section_find(span_sub(key, 0, dot));
    if (section == NULL) {
        buf_addf(errors, "%s: unknown section; there are: ", assignment);
        add_known(errors, NULL);
        return false;
    }
    const struct option *o = option_find(span_of(section), span_sub(key, dot + 1, key.n));
    if (o == NULL) {
        buf_addf(errors, "%s: unknown option; section %s has: ", assignment, section);
        add_known(errors, section);
        return false;
    }
    if (set_from_text(c, o, assignment + equals + 1))
        return true;
    char where[512];
    snprintf(where, sizeof where, "%.500s: ", assignment);
    return refuse(o, where, errors);
}

/* Puts the password, percent-encoded, into redis://[[USER]:OLD@]HOST… or unix://[[USER]:OLD@]/PATH. */
static char *url_with_password(const char *url, const char *password)
{
    const char *rest = strstr(url, "://");
    if (rest == NULL)
        return xstrdup(url);
    rest += 3;
    const char *at = strrchr(rest, '@'), *user = rest;
    int user_n = at != NULL ? (int)strcspn(user, ":@") : 0;
    struct buf out = {0};
    buf_addf(&out, "%.*s%.*s:", (int)(rest - url), url, user_n, user);
    for (const unsigned char *c = (const unsigned char *)password; *c != '\0'; c++)
        buf_addf(&out, strchr(":/?#[]@%", *c) != NULL ? "%%%02X" : "%c", *c);
    buf_addf(&out, "@%s", at != NULL ? at + 1 : rest);
    char *text = xstrdup(buf_cstr(&out));
    buf_free(&out);
    return text;
}

void conf_load_environment(struct conf *c)
{
    const char *password = getenv("JACKDAW_REDIS_PASSWORD");
    if (password != NULL) {
        char *url = url_with_password(c->redis_url, password);
        free(c->redis_url);
        c->redis_url = url;
    }
    const char *key = getenv("JACKDAW_BUS_CURVE_SECRET_KEY");
    if (key != NULL) {
        free(c->bus_curve_secret_key);
        c->bus_curve_secret_key = xstrdup(key);
    }
}

/* Writing */

static void add_quoted(struct buf *out, struct span text)
{
    buf_add_char(out, '"');
    for (size_t i = 0; i < text.n; i++) {
        unsigned char ch = (unsigned char)text.p[i];
        if (ch == '"' || ch == '\\')
            buf_addf(out, "\\%c", ch);
        else if (ch < 0x20)
            buf_addf(out, "\\x%02x", ch);
        else
            buf_add_char(out, (char)ch);
    }
    buf_add_char(out, '"');
}

static void add_value(struct buf *out, const struct conf *c, const struct option *o)
{
    const void *field = value_of(c, o);
    const struct conf_list *list = field;
    switch (o->kind) {
    case KIND_BOOL:
        buf_add_str(out, *(const bool *)field ? "true" : "false");
        break;
    case KIND_INT:
        /* Without the L libconfig cuts at 32 bits. */
        buf_addf(out, "%lld%s", (long long)*(const int64_t *)field,
                 *(const int64_t *)field > INT_MAX || *(const int64_t *)field < INT_MIN ? "L" : "");
        break;
    case KIND_TEXT:
        add_quoted(out, span_of(*(char *const *)field));
        break;
    case KIND_LIST:
        buf_add_str(out, list->count == 0 ? "\"\"" : "[");
        for (unsigned i = 0; i < list->count; i++) {
            buf_add_str(out, i > 0 ? ", " : "");
            add_quoted(out, span_of(list->items[i]));
        }
        buf_add_str(out, list->count == 0 ? "" : "]");
        break;
    case KIND_CHOICE:
        add_quoted(out, choice_text(o, *(const int *)field));
        break;
    }
}

/* A comment of lines of at most 100 characters, broken at spaces. */
static void add_comment(struct buf *out, struct span text)
{
    enum { WIDTH = 94 };
    while (text.n > 0) {
        size_t n = MIN(text.n, (size_t)WIDTH);
        while (n < text.n && n > 0 && text.p[n] != ' ')
            n--;
        if (n == 0) /* one long word */
            n = span_index(text, ' ');
        buf_addf(out, "    # %.*s\n", SPAN_FMT(span_sub(text, 0, n)));
        text = trim(span_sub(text, n, text.n));
    }
}

static void write_option(struct buf *out, const struct conf *c, const struct conf *defaults,
                         const struct option *o)
{
    struct buf text = {0}, value = {0}, initial = {0};
    buf_addf(&text, "%s Allowed: ", o->doc);
    add_allowed(&text, o);
    buf_add_char(&text, '.');
    add_comment(out, buf_span(&text));
    add_value(&value, c, o);
    add_value(&initial, defaults, o);
    bool same = span_eq(buf_span(&value), buf_span(&initial));
    buf_addf(out, "    %s%s = %.*s;\n", same ? "# " : "", o->name, SPAN_FMT(buf_span(&value)));
    buf_free(&text);
    buf_free(&value);
    buf_free(&initial);
}

void conf_write(const struct conf *c, struct buf *out)
{
    struct conf *defaults = conf_new();
    const char *section = NULL;
    buf_add_lit(
        out,
        "# Jackdaw: one file for all roles. Every option is optional; a line that begins with # shows the\n"
        "# default. A value is checked when a process starts, or by: jackdawctl config-check FILE\n");
    OPTION_EACH(o)
    {
        if (section == NULL || strcmp(section, o->section) != 0) {
            buf_addf(out, "%s\n%s: {\n", section != NULL ? "};\n" : "", o->section);
            section = o->section;
        } else {
            buf_add_char(out, '\n');
        }
        write_option(out, c, defaults, o);
    }
    buf_add_lit(out, "};\n");
    conf_free(defaults);
}
