#!lua name=jackdaw
--[[
Jackdaw's Redis functions: everything that must happen at once on the side of Redis. Every process loads this
library at every connect (FUNCTION LOAD REPLACE), so a change must stay compatible with the release before it.
functions.c is made from this file by functions.sh; a test compares the two.

CALL            FCALL <name> <number of keys> <keys...> <arguments...>
Numbers that may exceed 53 bits (incarnations) stay decimal texts from end to end.

USERS (keys.h; all keys of one user share the hash tag {bare-jid})

  jd_claim      KEYS owner account roster sessions mailbox meta     ARGV epoch name incarnation
      Makes name:incarnation the owner of the user and loads everything that is known, in one round trip.
      -> LIST of 7:  1 NUMBER account exists (0/1)
                     2 LIST   roster:   field, value, field, value, ...   (TEXT each)
                     3 LIST   sessions: likewise
                     4 LIST   meta:     likewise
                     5 NUMBER entries in the mailbox
                     6 TEXT   the mailbox's last generated id ("0-0" when there never was one)
                     7 TEXT   the claim that was replaced: "EPOCH:NAME:INCARNATION"; "EPOCH:" after a release,
                              "" when the user was never claimed. The own token = it was a retry.
      -> ERROR "STALE <epoch>": somebody claimed with a newer epoch, or somebody else with the same one.

  jd_apply      KEYS owner (further keys of the same user)          ARGV token, then per command: n cmd arg ...
      token is "EPOCH:NAME:INCARNATION" as claimed; n counts cmd and its arguments ("3","HDEL","key","field"),
      at most 4000.
      Runs all commands, nothing in between, if the claim still stands.
      -> LIST with the result of each command, in order (a failed command's result is an ERROR, the others are
         done all the same).
      -> ERROR "FENCED ...": the claim is not (or no longer) the token's; nothing was done.
      -> ERROR "REFUSED ...": malformed, a command off the list or a key of somebody else; nothing was done.
      Commands: HSET HDEL DEL XADD XTRIM XDEL SET EXPIRE PEXPIRE HINCRBY.

  jd_write      KEYS owner mailbox (meta (sessions (roster (blobs))))  ARGV token, then per operation:
      a id raw origin marks at   a message into the mailbox (r, o, m, t; empty ones are left out)
      m|s|r field value          HSET in meta, sessions, roster          M|S|R field   HDEL likewise
      d id                       XDEL from the mailbox                   t id          XTRIM MINID
      b name value               SET u:{jid}:name, DEL when value is empty
      What a router writes all day: the same as jd_apply in about a sixth less of Redis's time.
      -> NUMBER of messages that were in the mailbox already (their ids are not above its last): a repetition.
      -> ERROR "FENCED ...": as above; nothing was done.
      -> the first other ERROR; the rest is done all the same.
  jd_keep       the same for what adds nothing but keeps the books. Redis takes it also when its memory is full.

  jd_release    KEYS owner                                          ARGV token
      -> NUMBER 1 given up (the epoch is kept), 0 it was not ours.

  jd_present    KEYS present (of a slot)                            ARGV jid token
      Enters a user that has sessions, under that claim.              -> NUMBER 1 it was not there, 0 it was.

  jd_absent     KEYS present (of a slot)                            ARGV jid token
      Forgets a user without sessions, if it was entered under that claim.        -> NUMBER 1 forgotten, 0 not.

  jd_account_put     KEYS account                                   ARGV mode field value ...
      mode "create" (must not exist), "replace" (forgets the old record), "update" (must exist).
      -> NUMBER 1 done, 0 not (exists / does not exist).
  jd_account_delete  KEYS owner account roster sessions mailbox meta
      Deletes all and voids the claim, so that the owner's next write is FENCED and it looks again.
      -> NUMBER 1 there was an account, 0 there was none.

MEMBERSHIP (keys.h: KEYS_CLUSTER = members leases epoch suspects, always all four in this order)

  jd_member_renew  ARGV name incarnation role endpoint stats draining(0/1) lease_ms known_epoch
      Joins or renews the lease, drops every process whose lease has run out. known_epoch 0: "I am new", which
      replaces another incarnation of the same name.
      outcome "joined", "renewed", "changed" (draining or an address is different now).
      ERROR "REPLACED <incarnation>": known_epoch is not 0 and that newer incarnation has the name: end.
      When all leases have run out, it was Redis that was away, not everybody: the others then get lease_ms
      more in place of being dropped.
  jd_member_leave  ARGV name incarnation known_epoch
      outcome "left", "absent" (was not a member with this incarnation).
  jd_member_dead   ARGV name incarnation reporter certain(0/1) known_epoch
      A live member (reporter) says that another one is dead. Certain (its address refuses connections): it is
      dropped at once. Uncertain: it is dropped when two members say so within 2 s, or when the reporter is
      the only other member.
      outcome "removed", "suspect" (noted, waiting for a second voice), "absent" (not a member with this
      incarnation any more), "unheard" (the reporter is no member, or means itself).
  jd_member_list   ARGV known_epoch
      Reads only. outcome "list".

  Each answers a LIST of 4:
      1 NUMBER epoch (0 = there never was a member)
      2 NUMBER the time on Redis's clock, ms since 1970
      3 LIST   the nodes, sorted by name; empty when epoch == known_epoch (nothing new). Each node is a
               LIST of 7 TEXT: name, incarnation, role, endpoint, stats, draining ("0"/"1"),
               ms left of its lease (may be negative)
      4 TEXT   the outcome, see above

  Every change makes a new epoch and publishes it: PUBLISH jd:epoch <epoch>. An epoch is the old one plus one, or
  the seconds since 2026-01-01 if that is more: so it rises also when Redis came back with old data (a failover
  loses the last writes), and no two sets of members ever go under one number. A renewal that names a higher
  epoch than Redis has makes the next one after that: members take no list with a lower epoch than theirs.

READINESS
  jd_ready         -> TEXT "ready". Declared as writing, so Redis refuses it while it is loading, a replica or unable
      to write its file: exactly while jd_keep would fail.

A FULL REDIS (maxmemory, noeviction) refuses with OOM what adds to it: jd_write, jd_apply, jd_account_put. All else goes
on (allow-oom): it is small, leases and claims must not end with the memory, and it is how memory gets free again.
]]

-- ---------------------------------------------------------------- users

-- The epoch in front of a claim "EPOCH:NAME:INCARNATION".
local function claim_epoch(claim)
    return tonumber(string.match(claim, '^(%d+):')) or 0
end

local function jd_claim(keys, args)
    local epoch = tonumber(args[1])
    if #keys ~= 6 or #args ~= 3 or not epoch then
        return redis.error_reply('REFUSED jd_claim takes 6 keys, epoch, name, incarnation')
    end
    local token = args[1] .. ':' .. args[2] .. ':' .. args[3]
    local old = redis.call('GET', keys[1]) or ''
    if old ~= token then
        local old_epoch = claim_epoch(old)
        local held = old ~= '' and string.sub(old, -1) ~= ':'
        if old_epoch > epoch or (old_epoch == epoch and held) then
            return redis.error_reply('STALE ' .. string.format('%.0f', old_epoch))
        end
        redis.call('SET', keys[1], token)
    end
    local length, last = 0, '0-0'
    if redis.call('EXISTS', keys[5]) == 1 then
        local info = redis.call('XINFO', 'STREAM', keys[5])
        for i = 1, #info, 2 do
            if info[i] == 'length' then
                length = info[i + 1]
            elseif info[i] == 'last-generated-id' then
                last = info[i + 1]
            end
        end
    end
    return {
        redis.call('EXISTS', keys[2]),
        redis.call('HGETALL', keys[3]),
        redis.call('HGETALL', keys[4]),
        redis.call('HGETALL', keys[6]),
        length,
        last,
        old,
    }
end

local allowed = {
    HSET = true, HDEL = true, DEL = true, XADD = true, XTRIM = true, XDEL = true, SET = true, EXPIRE = true,
    PEXPIRE = true, HINCRBY = true,
}

local COMMAND_ARGS_MAX = 4000 -- what Lua's stack bears

local function jd_apply(keys, args)
    local owner = keys[1]
    if not owner or #args == 0 then
        return redis.error_reply('REFUSED jd_apply takes the owner key and a token')
    end
    if redis.call('GET', owner) ~= args[1] then
        return redis.error_reply('FENCED the claim is not (or no longer) yours')
    end
    -- Everything is checked before anything is done. "u:{jid}:owner" gives the prefix of the user's keys.
    local prefix = string.match(owner, '^(.*:)[^:]*$') or owner
    local prefix_n, last = #prefix, #args
    local at = 2
    while at <= last do
        local n = tonumber(args[at])
        if not n or n < 2 or n > COMMAND_ARGS_MAX or at + n > last then
            return redis.error_reply('REFUSED wrong count of arguments')
        end
        local command = args[at + 1]
        if not allowed[command] then
            return redis.error_reply('REFUSED command ' .. command)
        end
        -- DEL takes keys only; the others take one, in front.
        for i = at + 2, command == 'DEL' and at + n or at + 2 do
            if string.sub(args[i], 1, prefix_n) ~= prefix then
                return redis.error_reply("REFUSED somebody else's key in " .. command)
            end
        end
        at = at + n + 1
    end
    local results, count = {}, 0
    at = 2
    while at <= last do
        local n = tonumber(args[at])
        count = count + 1
        results[count] = redis.pcall(unpack(args, at + 1, at + n))
        at = at + n + 1
    end
    return results
end

-- HSET and HDEL by their letters: the place of the key.
local puts = { m = 3, s = 4, r = 5 }
local drops = { M = 3, S = 4, R = 5 }

local function append(call, key, id, raw, origin, marks, at)
    if marks ~= '' then
        return call('XADD', key, id, 'r', raw, 'o', origin, 'm', marks, 't', at)
    elseif origin ~= '' then
        return call('XADD', key, id, 'r', raw, 'o', origin, 't', at)
    end
    return call('XADD', key, id, 'r', raw, 't', at)
end

local function put_blob(call, owner, name, value)
    local key = string.match(owner, '^(.*:)[^:]*$') .. name
    if value == '' then
        return call('DEL', key)
    end
    return call('SET', key, value)
end

local function jd_write(keys, args)
    local call = redis.pcall
    if call('GET', keys[1]) ~= args[1] then
        return redis.error_reply('FENCED the claim is not (or no longer) yours')
    end
    local at, last, repeats, failed = 2, #args, 0, nil
    while at <= last do
        local op, result = args[at], nil
        if op == 'a' then
            result = append(call, keys[2], args[at + 1], args[at + 2], args[at + 3], args[at + 4], args[at + 5])
            at = at + 6
        elseif puts[op] then
            result = call('HSET', keys[puts[op]], args[at + 1], args[at + 2])
            at = at + 3
        elseif drops[op] then
            result = call('HDEL', keys[drops[op]], args[at + 1])
            at = at + 2
        elseif op == 'd' then
            result = call('XDEL', keys[2], args[at + 1])
            at = at + 2
        elseif op == 't' then
            result = call('XTRIM', keys[2], 'MINID', args[at + 1])
            at = at + 2
        elseif op == 'b' then
            result = put_blob(call, keys[1], args[at + 1], args[at + 2])
            at = at + 3
        else
            return redis.error_reply('REFUSED operation ' .. op)
        end
        if type(result) == 'table' and result.err then
            if op == 'a' and string.find(result.err, 'equal or smaller', 1, true) then
                repeats = repeats + 1
            else
                failed = failed or result
            end
        end
    end
    return failed or repeats
end

local function jd_release(keys, args)
    if redis.call('GET', keys[1]) ~= args[1] then
        return 0
    end
    redis.call('SET', keys[1], string.match(args[1], '^%d+:') or '')
    return 1
end

local function jd_present(keys, args)
    return redis.call('HSET', keys[1], args[1], args[2])
end

local function jd_absent(keys, args)
    if redis.call('HGET', keys[1], args[1]) ~= args[2] then
        return 0
    end
    return redis.call('HDEL', keys[1], args[1])
end

local function jd_account_put(keys, args)
    local exists = redis.call('EXISTS', keys[1]) == 1
    local mode = args[1]
    if (mode == 'create' and exists) or (mode == 'update' and not exists) then
        return 0
    end
    if mode == 'replace' then
        redis.call('DEL', keys[1])
    end
    redis.call('HSET', keys[1], unpack(args, 2))
    return 1
end

local function jd_account_delete(keys)
    local existed = redis.call('EXISTS', keys[2])
    for i = 2, #keys do
        redis.call('DEL', keys[i])
    end
    local epoch = string.match(redis.call('GET', keys[1]) or '', '^%d+:')
    if epoch then
        redis.call('SET', keys[1], epoch)
    end
    return existed
end

-- ---------------------------------------------------------------- membership

local EPOCH_ZERO_S = 1767225600 -- 2026-01-01
local SUSPECT_MS = 2000
local FAR_MS = 300000

local function now_ms()
    local t = redis.call('TIME')
    return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end

-- The current epoch, as a number.
local function epoch_get(keys)
    return tonumber(redis.call('GET', keys[3]) or '0')
end

local function epoch_next(keys, now, known)
    local epoch = math.max(epoch_get(keys) + 1, (known or 0) + 1, math.floor(now / 1000) - EPOCH_ZERO_S)
    local text = string.format('%.0f', epoch)
    redis.call('SET', keys[3], text)
    redis.call('PUBLISH', 'jd:epoch', text)
end

-- A member's record: a JSON list of texts: incarnation, role, endpoint, stats, draining.
local function record_get(keys, name)
    local text = redis.call('HGET', keys[1], name)
    return text and cjson.decode(text), text
end

local function member_drop(keys, name)
    redis.call('HDEL', keys[1], name)
    redis.call('ZREM', keys[2], name)
    redis.call('HDEL', keys[4], name)
end

local function member_answer(keys, now, known_epoch, outcome)
    local epoch = epoch_get(keys)
    local nodes = {}
    if epoch ~= tonumber(known_epoch) then
        local all = redis.call('HGETALL', keys[1])
        for i = 1, #all, 2 do
            local r = cjson.decode(all[i + 1])
            local lease = tonumber(redis.call('ZSCORE', keys[2], all[i]) or '0')
            nodes[#nodes + 1] = { all[i], r[1], r[2], r[3], r[4], r[5], string.format('%.0f', lease - now) }
        end
        table.sort(nodes, function(a, b) return a[1] < b[1] end)
    end
    return { epoch, now, nodes, outcome }
end

-- Drops whoever has no lease any more, but for `self`. True when somebody went.
local function drop_expired(keys, now, self, lease_ms)
    -- A lease that ends far in the future was given by a clock that has been set back since (or by another primary's).
    local odd = redis.call('ZRANGEBYSCORE', keys[2], string.format('(%.0f', now + math.max(4 * lease_ms, FAR_MS)), '+inf')
    for _, name in ipairs(odd) do
        redis.call('ZADD', keys[2], string.format('%.0f', now + lease_ms), name)
    end
    local expired = redis.call('ZRANGEBYSCORE', keys[2], '-inf', string.format('%.0f', now))
    if #expired == 0 then
        return false
    end
    local everybody = #expired == redis.call('ZCARD', keys[2])
    local dropped = false
    for _, name in ipairs(expired) do
        if name ~= self then
            if everybody then
                redis.call('ZADD', keys[2], string.format('%.0f', now + lease_ms), name)
            else
                member_drop(keys, name)
                dropped = true
            end
        end
    end
    return dropped
end

local function jd_member_renew(keys, args)
    local name, known_epoch = args[1], args[8]
    local lease_ms = tonumber(args[7])
    if #keys ~= 4 or #args ~= 8 or not lease_ms or lease_ms <= 0 then
        return redis.error_reply('REFUSED jd_member_renew takes 4 keys and 8 arguments')
    end
    local now = now_ms()
    local mine = cjson.encode({ args[2], args[3], args[4], args[5], args[6] })
    local old, old_text = record_get(keys, name)
    if old and old[1] ~= args[2] and known_epoch ~= '0' then
        return redis.error_reply('REPLACED ' .. old[1])
    end
    local outcome = 'renewed'
    local known = tonumber(known_epoch) or 0
    -- A member knows a later epoch: the list here is older than what it has seen, and is given a number that counts.
    local changed = known > epoch_get(keys)
    changed = drop_expired(keys, now, name, lease_ms) or changed
    if old_text ~= mine then
        outcome = old and old[1] == args[2] and 'changed' or 'joined'
        changed = true
        redis.call('HSET', keys[1], name, mine)
        redis.call('HDEL', keys[4], name)
    end
    redis.call('ZADD', keys[2], string.format('%.0f', now + lease_ms), name)
    if changed then
        epoch_next(keys, now, known)
    end
    return member_answer(keys, now, known_epoch, outcome)
end

local function jd_member_leave(keys, args)
    local now = now_ms()
    local record = record_get(keys, args[1])
    local outcome = 'absent'
    if record and record[1] == args[2] then
        member_drop(keys, args[1])
        epoch_next(keys, now)
        outcome = 'left'
    end
    return member_answer(keys, now, args[3], outcome)
end

-- Notes a suspicion; true when it suffices to drop the suspect.
local function suspicion_suffices(keys, now, name, incarnation, reporter)
    if redis.call('HLEN', keys[1]) <= 2 then
        return true -- the reporter is the only other one
    end
    local text = redis.call('HGET', keys[4], name)
    local old = text and cjson.decode(text)
    local reports, voices = {}, 0
    if old and old.incarnation == incarnation then
        for who, at in pairs(old.reports) do
            -- A voice counts while it is fresh and its owner is a member.
            if now - at <= SUSPECT_MS and redis.call('HEXISTS', keys[1], who) == 1 then
                reports[who] = at
            end
        end
    end
    reports[reporter] = now
    for _ in pairs(reports) do
        voices = voices + 1
    end
    redis.call('HSET', keys[4], name, cjson.encode({ incarnation = incarnation, reports = reports }))
    return voices >= 2
end

local function jd_member_dead(keys, args)
    local name, incarnation, reporter, certain = args[1], args[2], args[3], args[4] == '1'
    local now = now_ms()
    local record = record_get(keys, name)
    local outcome = 'suspect'
    if not record or record[1] ~= incarnation then
        outcome = 'absent'
    elseif reporter == name or redis.call('HEXISTS', keys[1], reporter) == 0 then
        outcome = 'unheard'
    elseif certain or suspicion_suffices(keys, now, name, incarnation, reporter) then
        member_drop(keys, name)
        epoch_next(keys, now)
        outcome = 'removed'
    end
    return member_answer(keys, now, args[5], outcome)
end

local function jd_member_list(keys, args)
    return member_answer(keys, now_ms(), args[1], 'list')
end

-- ---------------------------------------------------------------- names

local function always(name, callback)
    redis.register_function{ function_name = name, callback = callback, flags = { 'allow-oom' } }
end

redis.register_function('jd_apply', jd_apply)
redis.register_function('jd_write', jd_write)
redis.register_function('jd_account_put', jd_account_put)
redis.register_function{ function_name = 'jd_member_list', callback = jd_member_list, flags = { 'no-writes' } }
always('jd_keep', jd_write)
always('jd_claim', jd_claim)
always('jd_release', jd_release)
always('jd_present', jd_present)
always('jd_absent', jd_absent)
always('jd_account_delete', jd_account_delete)
always('jd_member_renew', jd_member_renew)
always('jd_member_leave', jd_member_leave)
always('jd_member_dead', jd_member_dead)
always('jd_ready', function() return 'ready' end)
