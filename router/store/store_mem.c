/* A user is a few arrays in the order of insertion (so that a run replays exactly). A call is copied into a
 * queue of its view and stamped with the world's next number; serving takes the smallest number among the
 * views, or of one view. */
#include "router/store/store_mem.h"

#include <stdlib.h>

#include "common/base/list.h"
#include "common/base/map.h"

struct fields {
    struct store_field *items; /* name and value owned */
    size_t n, cap;
};

struct mem_user {
    char *bare;
    bool exists;
    char *owner; /* NULL = never claimed */
    uint32_t owner_epoch;
    bool held; /* claimed and not released */
    struct fields hash[STORE_HASH_COUNT];
    struct fields blobs;
    char *present; /* the claim under which it was entered, NULL = not */
    uint16_t slot;
    struct store_entry *entries; /* raw, origin, marks owned */
    size_t entries_n, entries_cap;
    struct store_id last;
};

struct store_world {
    struct map users;
    struct list views;
    uint64_t next_number;
    uint64_t applied, fenced;
    bool full;
    bool running;
};

struct view {
    struct store base;
    struct list node; /* in world.views */
    struct store_world *world;
    struct list calls;
    enum store_mem_weather weather;
};

enum call_kind {
    CALL_CLAIM,
    CALL_APPLY,
    CALL_RELEASE,
    CALL_READ,
    CALL_BLOB,
    CALL_PRESENT,
    CALL_ABSENT,
    CALL_ACCOUNT_SET,
    CALL_ACCOUNT_DELETE
};

struct call {
    struct list node;
    uint64_t number;
    enum call_kind kind;
    char *bare;
    struct store_claim claim;
    char *router;    /* claim.router points here */
    struct buf data; /* CALL_APPLY: the operations; CALL_BLOB: the name */
    struct store_id after;
    unsigned max;
    bool adds;     /* CALL_APPLY: the batch needs room */
    uint16_t slot; /* CALL_PRESENT */
    union {
        store_claim_fn *claim;
        store_apply_fn *apply;
        store_read_fn *read;
        store_blob_fn *blob;
        store_present_fn *present;
    } fn;
    void *ctx;
};

/* ---- what is kept */

static struct span dup_span(struct span s)
{
    return span_make(span_dup(s), s.n);
}

static void free_span(struct span s)
{
    free((char *)s.p);
}

static size_t fields_find(const struct fields *f, struct span name)
{
    size_t i = 0;
    while (i < f->n && !span_eq(f->items[i].name, name))
        i++;
    return i;
}

static void fields_put(struct fields *f, struct span name, struct span value)
{
    size_t at = fields_find(f, name);
    if (at < f->n) {
        free_span(f->items[at].value);
        f->items[at].value = dup_span(value);
        return;
    }
    if (f->n == f->cap) {
        f->cap = MAX(f->cap * 2, 4);
        f->items = xrealloc(f->items, f->cap * sizeof *f->items);
    }
    f->items[f->n++] = (struct store_field){dup_span(name), dup_span(value)};
}

static void fields_drop(struct fields *f, struct span name)
{
    size_t at = fields_find(f, name);
    if (at == f->n)
        return;
    free_span(f->items[at].name);
    free_span(f->items[at].value);
    memmove(&f->items[at], &f->items[at + 1], (f->n - at - 1) * sizeof *f->items);
    f->n--;
}

static void fields_free(struct fields *f)
{
    for (size_t i = 0; i < f->n; i++) {
        free_span(f->items[i].name);
        free_span(f->items[i].value);
    }
    free(f->items);
    *f = (struct fields){0};
}

static void entry_free(struct store_entry *e)
{
    free_span(e->raw);
    free_span(e->origin);
    free_span(e->marks);
}

static struct mem_user *user_of(struct store_world *w, struct span bare)
{
    struct mem_user *u = map_get(&w->users, bare);
    if (u == NULL) {
        u = xcalloc(1, sizeof *u);
        u->bare = span_dup(bare);
        map_put(&w->users, span_of(u->bare), u);
    }
    return u;
}

static void user_clear(struct mem_user *u)
{
    for (size_t i = 0; i < STORE_HASH_COUNT; i++)
        fields_free(&u->hash[i]);
    fields_free(&u->blobs);
    for (size_t i = 0; i < u->entries_n; i++)
        entry_free(&u->entries[i]);
    free(u->entries);
    u->entries = NULL;
    u->entries_n = u->entries_cap = 0;
    u->last = (struct store_id){0, 0};
}

static void owner_set(struct mem_user *u, uint32_t epoch, const struct store_claim *claim)
{
    free(u->owner);
    u->owner_epoch = epoch;
    u->held = claim != NULL;
    u->owner = claim != NULL ? xasprintf("%u:%.*s:%llu", epoch, SPAN_FMT(claim->router),
                                         (unsigned long long)claim->incarnation)
                             : xasprintf("%u:", epoch);
}

static bool is_owner(const struct mem_user *u, const struct store_claim *claim)
{
    if (u->owner == NULL || !u->held)
        return false;
    char *token = xasprintf("%u:%.*s:%llu", claim->epoch, SPAN_FMT(claim->router),
                            (unsigned long long)claim->incarnation);
    bool same = strcmp(token, u->owner) == 0;
    free(token);
    return same;
}

/* ---- operations of a batch */

static void op_append(struct mem_user *u, const struct store_entry *e)
{
    if (store_id_cmp(e->id, u->last) <= 0)
        return; /* a repeated batch */
    if (u->entries_n == u->entries_cap) {
        u->entries_cap = MAX(u->entries_cap * 2, 8);
        u->entries = xrealloc(u->entries, u->entries_cap * sizeof *u->entries);
    }
    u->entries[u->entries_n++] = (struct store_entry){.id = e->id,
                                                      .raw = dup_span(e->raw),
                                                      .origin = dup_span(e->origin),
                                                      .marks = dup_span(e->marks),
                                                      .at_ms = e->at_ms};
    u->last = e->id;
}

/* Removes the entries in [from, to). */
static void entries_cut(struct mem_user *u, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++)
        entry_free(&u->entries[i]);
    if (to > from)
        memmove(&u->entries[from], &u->entries[to], (u->entries_n - to) * sizeof *u->entries);
    u->entries_n -= to - from;
}

/* The place of the first entry whose id is not below. */
static size_t entries_find(const struct mem_user *u, struct store_id id)
{
    size_t i = 0;
    while (i < u->entries_n && store_id_cmp(u->entries[i].id, id) < 0)
        i++;
    return i;
}

/* Forgets a user that was entered by its owner of now. */
static void present_leave(struct mem_user *u)
{
    if (u->present == NULL || strcmp(u->present, u->owner) != 0)
        return;
    free(u->present);
    u->present = NULL;
}

static void op_do(struct mem_user *u, const struct store_op *op)
{
    size_t at;
    switch (op->kind) {
    case STORE_OP_PUT:
        fields_put(&u->hash[op->hash], op->field, op->value);
        break;
    case STORE_OP_DROP:
        fields_drop(&u->hash[op->hash], op->field);
        break;
    case STORE_OP_APPEND:
        op_append(u, &op->entry);
        break;
    case STORE_OP_REMOVE:
        at = entries_find(u, op->entry.id);
        if (at < u->entries_n && store_id_cmp(u->entries[at].id, op->entry.id) == 0)
            entries_cut(u, at, at + 1);
        break;
    case STORE_OP_TRIM:
        entries_cut(u, 0, entries_find(u, op->entry.id));
        break;
    case STORE_OP_BLOB:
        if (op->value.n > 0)
            fields_put(&u->blobs, op->field, op->value);
        else
            fields_drop(&u->blobs, op->field);
        break;
    case STORE_OP_PRESENT:
        present_leave(u);
        if (op->present) {
            free(u->present);
            u->present = xstrdup(u->owner);
            u->slot = op->slot;
        }
        break;
    }
}

/* ---- serving calls */

static enum store_result claim_do(struct mem_user *u, const struct store_claim *claim)
{
    if (is_owner(u, claim))
        return STORE_OK;
    if (u->owner != NULL && (u->owner_epoch > claim->epoch || (u->owner_epoch == claim->epoch && u->held)))
        return STORE_FENCED;
    owner_set(u, claim->epoch, claim);
    return STORE_OK;
}

static enum store_result apply_do(struct store_world *w, struct mem_user *u, const struct call *call)
{
    if (w->full && call->adds)
        return STORE_FULL;
    if (!is_owner(u, &call->claim)) {
        w->fenced++;
        return STORE_FENCED;
    }
    struct span ops = buf_span(&call->data);
    struct store_op op;
    while (store_op_next(&ops, &op))
        op_do(u, &op);
    w->applied++;
    return STORE_OK;
}

static void claim_answer(const struct call *call, enum store_result result, const struct mem_user *u)
{
    struct store_user loaded = {.exists = u->exists, .mailbox_count = u->entries_n, .mailbox_last = u->last};
    for (size_t i = 0; i < STORE_HASH_COUNT; i++) {
        loaded.hash[i] = u->hash[i].items;
        loaded.hash_count[i] = u->hash[i].n;
    }
    call->fn.claim(call->ctx, result, result == STORE_OK ? &loaded : NULL);
}

static void read_answer(const struct call *call, enum store_result result, const struct mem_user *u)
{
    size_t from = 0;
    while (from < u->entries_n && store_id_cmp(u->entries[from].id, call->after) <= 0)
        from++;
    size_t count = result == STORE_OK ? MIN(u->entries_n - from, call->max) : 0;
    call->fn.read(call->ctx, result, count > 0 ? u->entries + from : NULL, count);
}

static void blob_answer(const struct call *call, enum store_result result, const struct mem_user *u)
{
    struct span value = {0};
    size_t at = fields_find(&u->blobs, buf_span(&call->data));
    if (result == STORE_OK && at < u->blobs.n)
        value = u->blobs.items[at].value;
    call->fn.blob(call->ctx, result, value);
}

static void present_answer(struct store_world *w, const struct call *call, enum store_result result)
{
    struct span *users = xmalloc((w->users.count + 1) * sizeof *users);
    size_t count = 0, at = 0;
    const struct mem_user *u;
    while (result == STORE_OK && (u = map_next(&w->users, &at)) != NULL)
        if (u->present != NULL && u->slot == call->slot)
            users[count++] = span_of(u->bare);
    call->fn.present(call->ctx, result, users, count);
    free(users);
}

/* What the call does there. */
static enum store_result call_do(struct store_world *w, struct mem_user *u, const struct call *call)
{
    switch (call->kind) {
    case CALL_CLAIM:
        return claim_do(u, &call->claim);
    case CALL_APPLY:
        return apply_do(w, u, call);
    case CALL_RELEASE:
        if (is_owner(u, &call->claim))
            owner_set(u, u->owner_epoch, NULL);
        return STORE_OK;
    case CALL_ABSENT:
        if (is_owner(u, &call->claim))
            present_leave(u);
        return STORE_OK;
    case CALL_ACCOUNT_SET: /* the keys themselves are nobody's business here */
        return u->exists ? STORE_OK : STORE_FENCED;
    case CALL_ACCOUNT_DELETE:
        if (!u->exists)
            return STORE_FENCED;
        store_mem_del_account(w, span_of(u->bare));
        return STORE_OK;
    default:
        return STORE_OK;
    }
}

static void call_answer(struct store_world *w, const struct call *call, enum store_result result,
                        const struct mem_user *u)
{
    switch (call->kind) {
    case CALL_CLAIM:
        claim_answer(call, result, u);
        break;
    case CALL_APPLY:
    case CALL_ACCOUNT_SET:
    case CALL_ACCOUNT_DELETE:
        call->fn.apply(call->ctx, result);
        break;
    case CALL_READ:
        read_answer(call, result, u);
        break;
    case CALL_BLOB:
        blob_answer(call, result, u);
        break;
    case CALL_PRESENT:
        present_answer(w, call, result);
        break;
    case CALL_RELEASE:
    case CALL_ABSENT:
        break;
    }
}

static void call_free(struct call *call)
{
    list_del(&call->node);
    free(call->bare);
    free(call->router);
    buf_free(&call->data);
    free(call);
}

static struct call *first_call(const struct view *v)
{
    return list_empty(&v->calls) ? NULL : LIST_ENTRY(v->calls.next, struct call, node);
}

static void serve(struct view *v, struct call *call)
{
    struct store_world *w = v->world;
    CHECK(!w->running); /* store_mem_run inside a callback */
    w->running = true;
    list_del(&call->node);
    struct mem_user *u = call->kind != CALL_PRESENT ? user_of(w, span_of(call->bare)) : NULL;
    enum store_result result = STORE_AWAY;
    if (v->weather != STORE_MEM_AWAY)
        result = call_do(w, u, call);
    if (v->weather == STORE_MEM_MUTE)
        result = STORE_AWAY;
    call_answer(w, call, result, u);
    call_free(call);
    w->running = false;
}

size_t store_mem_run_view(struct store *s, size_t max)
{
    struct view *v = CONTAINER_OF(s, struct view, base);
    size_t done = 0;
    struct call *call;
    for (; done < max && (call = first_call(v)) != NULL; done++)
        serve(v, call);
    return done;
}

size_t store_mem_run(struct store_world *w, size_t max)
{
    size_t done = 0;
    for (; done < max; done++) {
        struct view *oldest = NULL;
        LIST_EACH (it, &w->views) {
            struct view *v = LIST_ENTRY(it, struct view, node);
            if (first_call(v) != NULL &&
                (oldest == NULL || first_call(v)->number < first_call(oldest)->number))
                oldest = v;
        }
        if (oldest == NULL)
            break;
        serve(oldest, first_call(oldest));
    }
    return done;
}

size_t store_mem_pending_view(const struct store *s)
{
    const struct view *v = CONTAINER_OF((struct store *)s, struct view, base);
    size_t n = 0;
    for (const struct list *it = v->calls.next; it != &v->calls; it = it->next)
        n++;
    return n;
}

size_t store_mem_pending(const struct store_world *w)
{
    size_t n = 0;
    for (const struct list *it = w->views.next; it != &w->views; it = it->next)
        n += store_mem_pending_view(&LIST_ENTRY((struct list *)it, struct view, node)->base);
    return n;
}

void store_mem_set_weather(struct store *s, enum store_mem_weather weather)
{
    CONTAINER_OF(s, struct view, base)->weather = weather;
}

void store_mem_set_full(struct store_world *w, bool full)
{
    w->full = full;
}

void store_mem_drop(struct store *s, size_t done)
{
    struct view *v = CONTAINER_OF(s, struct view, base);
    struct call *call;
    while ((call = first_call(v)) != NULL) {
        if (done > 0) {
            done--;
            if (call->kind != CALL_PRESENT)
                call_do(v->world, user_of(v->world, span_of(call->bare)), call);
        }
        call_free(call);
    }
}

/* ---- the face */

static struct call *call_new(struct store *s, enum call_kind kind, struct span bare, void *ctx)
{
    struct view *v = CONTAINER_OF(s, struct view, base);
    struct call *call = xcalloc(1, sizeof *call);
    call->number = v->world->next_number++;
    call->kind = kind;
    call->bare = span_dup(bare);
    call->ctx = ctx;
    list_init(&call->node);
    list_add(&v->calls, &call->node);
    return call;
}

static void call_claim_set(struct call *call, const struct store_claim *claim)
{
    call->claim = *claim;
    call->router = span_dup(claim->router);
    call->claim.router.p = call->router;
}

static void face_claim(struct store *s, struct span bare, const struct store_claim *claim, store_claim_fn *fn,
                       void *ctx)
{
    struct call *call = call_new(s, CALL_CLAIM, bare, ctx);
    call_claim_set(call, claim);
    call->fn.claim = fn;
}

static void face_apply(struct store *s, struct span bare, const struct store_claim *claim,
                       const struct store_batch *batch, store_apply_fn *fn, void *ctx)
{
    struct call *call = call_new(s, CALL_APPLY, bare, ctx);
    call_claim_set(call, claim);
    buf_add_span(&call->data, buf_span(&batch->ops));
    call->adds = batch->adds > 0;
    call->fn.apply = fn;
}

static void face_release(struct store *s, struct span bare, const struct store_claim *claim)
{
    call_claim_set(call_new(s, CALL_RELEASE, bare, NULL), claim);
}

static void face_read(struct store *s, struct span bare, struct store_id after, unsigned max,
                      store_read_fn *fn, void *ctx)
{
    struct call *call = call_new(s, CALL_READ, bare, ctx);
    call->after = after;
    call->max = max;
    call->fn.read = fn;
}

static void face_blob(struct store *s, struct span bare, struct span name, store_blob_fn *fn, void *ctx)
{
    struct call *call = call_new(s, CALL_BLOB, bare, ctx);
    buf_add_span(&call->data, name);
    call->fn.blob = fn;
}

static void face_present(struct store *s, uint16_t slot, store_present_fn *fn, void *ctx)
{
    struct call *call = call_new(s, CALL_PRESENT, SPAN(""), ctx);
    call->slot = slot;
    call->fn.present = fn;
}

static void face_absent(struct store *s, uint16_t slot, struct span bare, const struct store_claim *claim)
{
    (void)slot;
    call_claim_set(call_new(s, CALL_ABSENT, bare, NULL), claim);
}

static void face_account_set(struct store *s, struct span bare, const struct sasl_keys *keys,
                             store_apply_fn *fn, void *ctx)
{
    (void)keys;
    call_new(s, CALL_ACCOUNT_SET, bare, ctx)->fn.apply = fn;
}

static void face_account_delete(struct store *s, struct span bare, store_apply_fn *fn, void *ctx)
{
    call_new(s, CALL_ACCOUNT_DELETE, bare, ctx)->fn.apply = fn;
}

static const struct store_face face = {.claim = face_claim,
                                       .apply = face_apply,
                                       .release = face_release,
                                       .read = face_read,
                                       .blob = face_blob,
                                       .present = face_present,
                                       .absent = face_absent,
                                       .account_set = face_account_set,
                                       .account_delete = face_account_delete};

struct store *store_mem_new(struct store_world *w)
{
    struct view *v = xcalloc(1, sizeof *v);
    v->base.face = &face;
    v->world = w;
    list_init(&v->calls);
    list_init(&v->node);
    list_add(&w->views, &v->node);
    return &v->base;
}

struct store_world *store_world_new(void)
{
    struct store_world *w = xcalloc(1, sizeof *w);
    list_init(&w->views);
    return w;
}

void store_world_free(struct store_world *w)
{
    if (w == NULL)
        return;
    LIST_EACH (it, &w->views) {
        struct view *v = LIST_ENTRY(it, struct view, node);
        store_mem_drop(&v->base, 0);
        free(v);
    }
    size_t at = 0;
    struct mem_user *u;
    while ((u = map_next(&w->users, &at)) != NULL) {
        user_clear(u);
        free(u->owner);
        free(u->present);
        free(u->bare);
        free(u);
    }
    map_free(&w->users);
    free(w);
}

void store_mem_add_account(struct store_world *w, struct span bare)
{
    user_of(w, bare)->exists = true;
}

void store_mem_del_account(struct store_world *w, struct span bare)
{
    struct mem_user *u = user_of(w, bare);
    u->exists = false;
    user_clear(u);
    if (u->owner != NULL)
        owner_set(u, u->owner_epoch, NULL);
}

/* ---- looking in */

struct span store_mem_field(const struct store_world *w, struct span bare, enum store_hash hash,
                            struct span name)
{
    const struct mem_user *u = map_get(&w->users, bare);
    size_t at = u != NULL ? fields_find(&u->hash[hash], name) : 0;
    return u != NULL && at < u->hash[hash].n ? u->hash[hash].items[at].value : (struct span){0};
}

size_t store_mem_mailbox_count(const struct store_world *w, struct span bare)
{
    const struct mem_user *u = map_get(&w->users, bare);
    return u != NULL ? u->entries_n : 0;
}

const struct store_entry *store_mem_mailbox_at(const struct store_world *w, struct span bare, size_t at)
{
    const struct mem_user *u = map_get(&w->users, bare);
    return u != NULL && at < u->entries_n ? &u->entries[at] : NULL;
}

struct span store_mem_owner(const struct store_world *w, struct span bare)
{
    const struct mem_user *u = map_get(&w->users, bare);
    return u != NULL && u->owner != NULL ? span_of(u->owner) : SPAN("");
}

uint64_t store_mem_applied(const struct store_world *w)
{
    return w->applied;
}

uint64_t store_mem_fenced(const struct store_world *w)
{
    return w->fenced;
}
