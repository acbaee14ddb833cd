"""Counts what a run has done to the messages, and says what was wrong."""
import collections
import statistics
import time

JOIN_MAX_US = 500000


def per_session(got):
    """The rows of (sender, number, sent us, got us) of each session."""
    rows = []
    for x in got:
        if x is None:
            rows.append([])
        else:
            rows[-1].append(x)
    return rows


def wall(us):
    """A time of the monotonic clock as the logs write it."""
    at = time.time() - time.monotonic() + us / 1e6
    return time.strftime("%H:%M:%S", time.gmtime(at)) + f"{at % 1:.3f}"[1:]


def quantile(values, q):
    values = sorted(values)
    return values[min(int(len(values) * q), len(values) - 1)] if values else None


def times_ms(values):
    if not values:
        return "none"
    return f"median {quantile(values, 0.5) / 1000:.0f} ms, 99 % {quantile(values, 0.99) / 1000:.0f} ms, most {max(values) / 1000:.0f} ms ({len(values)})"


def count_messages(run, results, counts):
    by_index = {r["index"]: r for r in results}
    taken = collections.defaultdict(set)  # sender -> numbers that arrived
    twice = reordered = 0
    latencies = []
    for r in results:
        for row in per_session(r["got"]):
            seen, last = set(), {}
            for sender, number, sent, got in row:
                latencies.append(got - sent)
                again = number in by_index[sender]["repeated"]  # sent in two sessions of the sender: it may come twice
                if (sender, number) in seen and not again:
                    twice += 1
                    run.violations.append(f"u{r['index']} got {sender}.{number} twice in one session, again at {wall(got)}, sent at {wall(sent)}")
                elif last.get(sender, 0) > number and not again:
                    reordered += 1
                    run.violations.append(f"u{r['index']} got {sender}.{number} (sent {wall(sent)}) at {wall(got)}, after {sender}.{last[sender]}")
                seen.add((sender, number))
                last[sender] = max(last.get(sender, 0), number)
                taken[sender].add(number)
    lost = []
    for r in results:
        if r["sm"]:
            lost += [(r["index"], n) for n in r["acked"] - taken[r["index"]] - r["errors"].keys()]
    for sender, number in lost:
        run.violations.insert(0, f"lost: {sender}.{number} to u{by_index[sender]['to'][number]} was acknowledged")
    counts["messages_sent"] = sum(r["messages"] for r in results)
    counts["messages_acknowledged"] = sum(len(r["acked"]) for r in results)
    counts["messages_arrived"] = sum(len(t) for t in taken.values())
    counts["messages_unacknowledged"] = sum(r["unacked"] for r in results)
    counts["acknowledged_and_lost"] = len(lost)
    counts["twice_in_a_session"] = twice
    counts["reordered_in_a_session"] = reordered
    counts["answered_with_an_error"] = sum(len(r["errors"]) for r in results)
    counts["message_latency"] = times_ms(latencies)
    if run.args.join and not run.args.rolling and max(latencies, default=0) > JOIN_MAX_US:
        run.violations.append(f"a message took {max(latencies) / 1000:.0f} ms while a router joined")
    return latencies


def count_sessions(run, results, counts):
    trouble = sum((collections.Counter(r["trouble"]) for r in results), collections.Counter())
    counts["resumes"] = sum(len(r["resumes"]) for r in results)
    counts["old_connection_left_open"] = sum(r["roams"] for r in results)
    counts["resumes_refused"] = sum(len(r["failed_resumes"]) for r in results)
    counts["sessions_of_sm_clients"] = f"{sum(r['sessions'] for r in results if r['sm'])} of {sum(r['sm'] for r in results)} clients"
    counts["resume_time"] = times_ms([t for r in results for _, t in r["resumes"]])
    counts["sends_held_back"] = sum(r["skipped"] for r in results)
    if run.args.may_answer and not any(r["errors"] for r in results):
        run.violations.append(f"no message was answered with {run.args.may_answer}")
    if run.args.rolling:
        for what, n in trouble.items():
            if what != "system-shutdown":
                run.violations.append(f"{n} clients saw more than a resume: {what}")
    for r in results:
        if r["sm"] and r["sessions"] > 1:
            run.violations.append(f"u{r['index']} had {r['sessions']} sessions")
    counts["stream_errors"] = ", ".join(f"{n} {what}" for what, n in trouble.most_common(6)) or "none"
    for r in results:
        for when, text in r["failed_resumes"]:
            run.violations.append(f"u{r['index']} could not resume at {wall(when)}: {text}")
        for i, text in r["errors"].items():
            if run.args.may_answer and f"<{run.args.may_answer} " in text:
                continue
            run.violations.append(f"{r['index']}.{i} was answered with an error: {text[:300]}")


def count_kills(run, results, counts):
    by_role = collections.Counter(name.rpartition("-")[0] or name for _, name, _ in run.kills)
    counts["kills" if not run.args.rolling else "restarts"] = (
        f"{len(run.kills)}: " + ", ".join(f"{n} {role}" for role, n in sorted(by_role.items())) if run.kills else "none"
    )
    by_index = {r["index"]: [x for x in r["got"] if x is not None] for r in results}
    first = []
    for at, name, users in run.kills:
        later = [got - at for i in users for _, _, sent, got in by_index[i] if sent >= at]
        if later:
            first.append(min(later))
    if first:
        counts["router_kill_to_first_message"] = times_ms(first)
        if statistics.median(first) > 1000000:
            run.violations.append("the median time from the kill of a router to the first message of its successor is over a second")
    resumes = [r for r in results]
    after_c2s = []
    for k, (at, name, _) in enumerate(run.kills):
        others = [t for j, (t, n, _) in enumerate(run.kills) if j != k and not n.startswith(("c2s", "s2s"))]
        if name.startswith("c2s"):
            after_c2s += [
                t for r in resumes for when, t in r["resumes"] if 0 < when - at < 1000000 and not any(-500000 < when - o < 3000000 for o in others)
            ]
    if after_c2s:
        counts["resume_time_after_c2s_kill"] = times_ms(after_c2s)
        if statistics.median(after_c2s) > 100000 and not run.args.away:
            run.violations.append("the server took more than 100 ms (median) to resume sessions whose connection manager was killed")


def judge(run, results):
    counts = run.counts
    count_kills(run, results, counts)
    count_messages(run, results, counts)
    count_sessions(run, results, counts)
    counts["processes_ended_oddly"] = len(run.cluster.odd)
