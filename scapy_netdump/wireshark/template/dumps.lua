-- Dumps -------------------------------------------------------------------------------------

-- The first time that Wireshark shows a frame, in the order of the capture, what it means is
-- worked out and kept; later nothing is but looked up, so that any order of looking gives the
-- same. A message or ack is known by its key: the frame's number, plus a fraction for those
-- after the first in a datagram. A message that goes on where the one before ended, and the
-- ack to it, leave nothing behind but each other's frame and the time between.
local IN_DATAGRAM = 32768

local state
local server_ports, client_ports = {}, {} -- sets, told by the preferences

local function forget_all()
    state = {
        dumps = 0, -- how many
        dumps_of = {}, -- how many, by client
        peers = {}, -- by client, its port and server
        answering = {}, -- dumps' flows, by server, its port and client
        waiting = {}, -- heralds whose dumps have not begun, by client and server
        facts = {}, -- by key: what is out of the ordinary
        links = { open = {}, packed = {}, apart = {} }, -- of messages and their acks
        resent = {}, -- by key of a message: where it comes again
        addresses = {}, -- by number
        numbers = {}, -- of addresses, by what they are shown as
        named = false, -- whether any was shown as a name
    }
end
forget_all()

local function same_address(address)
    for number, known in ipairs(state.addresses) do
        if known == address then
            return number
        end
    end
    state.addresses[#state.addresses + 1] = address
    return #state.addresses
end

-- A number for an address. Wireshark shows an address as a name once it has found out one, and
-- two addresses may have the same name, so names are not relied on.
local function address_id(address)
    local shown = tostring(address)
    local number = state.numbers[shown]
    local numeric = string.find(shown, ":", 1, true) or string.find(shown, "^[%d.]+$")
    if number and (numeric or state.addresses[number] == address) then
        return number
    end
    if not numeric then
        state.named = true
    end
    if state.named then
        number = same_address(address)
    else
        number = #state.addresses + 1
        state.addresses[number] = address
    end
    state.numbers[shown] = number
    return number
end

local function new_peer(name, place)
    local peer = { client = place.client, server = place.server, since = place.frame, flows = {} }
    state.peers[name] = peer
    return peer
end

-- A message that was sent: an array, since thousands are kept.
local KEY, REL, TIME, KIND, OFFSET, ACKED = 1, 2, 3, 4, 5, 6

local function new_sent(key, place, kind, offset)
    return { key, place.rel, place.time, kind, offset, false }
end

local function new_file(limit)
    return { limit = limit, ranges = new_ranges(), expected = 0, marks = {} }
end

local function new_dump(peer)
    state.dumps = state.dumps + 1
    state.dumps_of[peer.client] = (state.dumps_of[peer.client] or 0) + 1
    return {
        number = state.dumps,
        number_of_client = state.dumps_of[peer.client],
        client = peer.client,
        client_address = tostring(state.addresses[peer.client]),
        files = {
            [TYPE.VMCORE] = new_file(LIMIT.OFFSET),
            [TYPE.KDH] = new_file(KDH_SIZE),
            [TYPE.EKCD_KEY] = new_file(LIMIT.KEY),
        },
        sent = new_recent(), -- messages, by sequence number
        acked = new_ranges(), -- sequence numbers
        bytes = 0,
        announced = 0,
        last_time = 0,
    }
end

-- A number was given to what turned out to be no dump.
local function take_back(dump)
    if dump and dump.number == state.dumps then
        state.dumps = state.dumps - 1
        state.dumps_of[dump.client] = state.dumps_of[dump.client] - 1
    end
end

local function waiting_between(client, server)
    return state.waiting[client .. "|" .. server] or {}
end

-- A HERALD. Which dump it announces is certain only when data follows: until then, a dump of
-- its own, unless an unfinished one was announced in the same words.
local function take_herald(peer, place, key, seqno, path)
    local herald = peer.waiting
    local copy = herald ~= nil
    if not copy then
        local latest = peer.latest
        local same = latest and not latest.finished
            and latest.seqno == seqno and latest.path == path
        herald = { seqno = seqno, path = path, time = place.time, key = key, answers = {} }
        herald.sent = new_sent(key, place, TYPE.HERALD, 0)
        herald.latest = same and latest or nil
        herald.dump = not same and new_dump(peer) or nil
        peer.waiting = herald
        local ends = peer.client .. "|" .. peer.server
        state.waiting[ends] = state.waiting[ends] or {}
        table.insert(state.waiting[ends], herald)
    end
    state.facts[key] = { herald = herald, copy = copy, repeats = copy and herald.key or nil }
    if copy then
        state.resent[herald.key] = key
    end
end

-- The dump that a herald announced, as far as is known.
local function dump_of_herald(herald)
    return herald.dump or herald.latest
end

local function no_longer_waiting(peer, herald)
    peer.waiting = nil
    local waiting = waiting_between(peer.client, peer.server)
    for index = #waiting, 1, -1 do
        if waiting[index] == herald then
            table.remove(waiting, index)
        end
    end
    if #waiting == 0 then
        state.waiting[peer.client .. "|" .. peer.server] = nil
    end
end

local function announce(dump, herald)
    if herald.dump ~= dump then
        take_back(herald.dump)
        herald.dump = dump
    end
    herald.repeated = dump.heralded
    dump.heralded = true
    dump.seqno, dump.path = dump.seqno or herald.seqno, dump.path or herald.path
    dump.first_seqno = dump.first_seqno or herald.seqno
    dump.last_time = math.max(dump.last_time, herald.time)
    remember(dump.sent, herald.seqno, herald.sent)
    if herald.sent[ACKED] then
        add_range(dump.acked, herald.seqno, herald.seqno + 1)
    end
end

local function led_elsewhere(herald, port)
    return next(herald.answers) ~= nil and not herald.answers[port]
end

-- To the port that takes HERALDs, although the client's dump goes elsewhere.
local function is_stray(peer, herald, port)
    if not server_ports[port] then
        return false
    end
    if herald and next(herald.answers) then
        return led_elsewhere(herald, port)
    end
    return peer.latest ~= nil
end

-- Whether a message to the port of a dump begins another one, after one more HERALD.
local function restarts(dump, herald, message)
    if herald.time > dump.last_time + LIMIT.REBOOT_TIME then
        return true
    end
    if message.kind == TYPE.FINISHED then
        return false
    end
    local at_start = not dump.first_seqno or message.seqno <= dump.first_seqno + 1
    return dump.finished or (at_start and dump.bytes > LIMIT.RESEND_WINDOW)
end

local function take_up(peer, port, herald, place)
    local dump = herald and herald.dump or new_dump(peer)
    local flow = peer.flows[port] or {}
    flow[#flow + 1] = { dump = dump, since = place.frame }
    peer.flows[port], peer.latest = flow, dump
    state.answering[peer.server .. "|" .. port .. "|" .. peer.client] = flow
    return dump
end

local function running(flow)
    return flow and flow[#flow].dump
end

-- The dump of a message that is no HERALD; nil if no server would take it.
local function find_dump(peer, place, message)
    local port, herald = place.server_port, peer.waiting
    local dump = running(peer.flows[port])
    if not dump and is_stray(peer, herald, port) then
        return nil
    end
    if herald then
        local over = dump and dump.finished and message.kind == TYPE.FINISHED
        if over or led_elsewhere(herald, port) then
            herald = nil
        end
    end
    if not dump or (herald and restarts(dump, herald, message)) then
        dump = take_up(peer, port, herald, place)
    end
    if herald then
        announce(dump, herald)
        no_longer_waiting(peer, herald)
    end
    dump.last_time = math.max(dump.last_time, place.time)
    return dump
end

-- The dump that was running on a flow when a frame was captured.
local function dump_at(flow, frame)
    for index = flow and #flow or 0, 1, -1 do
        if flow[index].since <= frame then
            return flow[index].dump
        end
    end
    return nil
end

-- Where the bytes so far are not the end of what came in order less the same number as before.
local function mark(file, key, deficit)
    local marks = file.marks
    if #marks == 0 or marks[#marks] ~= deficit then
        marks[#marks + 1] = key
        marks[#marks + 1] = deficit
    end
end

local function deficit_at(file, key)
    local marks, low, high = file.marks, 0, #file.marks / 2
    while low < high do
        local middle = math.floor((low + high + 1) / 2)
        if marks[2 * middle - 1] <= key then
            low = middle
        else
            high = middle - 1
        end
    end
    return marks[2 * low] or 0
end

local function fact(key)
    local facts = state.facts[key] or {}
    state.facts[key] = facts
    return facts
end

-- A piece of a file: what of it is new, and whether it follows on. `earlier` was sent with the
-- same sequence number.
local function take_piece(file, key, message, earlier)
    local first = message.offset
    local last = math.min(first + message.captured, file.limit)
    if first >= last then
        return
    end
    local ranges, expected = file.ranges, file.expected
    local before = held(ranges, first, last)
    add_range(ranges, first, last)
    file.expected = math.max(expected, first + message.len)
    if first == expected then
        mark(file, key, last - ranges.total)
    else
        local facts = fact(key)
        facts.expected, facts.received = expected, ranges.total
        facts.gap = first > expected and first - expected or nil
    end
    if before == last - first then
        fact(key).again = true
        if earlier and earlier[OFFSET] == first then
            fact(key).repeats = earlier[KEY]
            state.resent[earlier[KEY]] = key
        end
    elseif before > 0 then
        fact(key).overlap = before
    end
    if ranges.full then
        fact(key).scattered = true
    end
end

local function take_data(dump, key, message, place)
    local earlier = recall(dump.sent, message.seqno)
    if earlier and earlier[KIND] ~= message.kind then
        earlier = nil
    elseif earlier and earlier[OFFSET] ~= message.offset then
        fact(key).other_place = earlier[KEY]
    end
    remember(dump.sent, message.seqno, new_sent(key, place, message.kind, message.offset))
    dump.first_seqno = dump.first_seqno or message.seqno
    dump.bytes = dump.bytes + message.captured
    if message.kind == TYPE.VMCORE and message.len > 0 then
        local last = math.min(message.offset + message.len, LIMIT.OFFSET)
        dump.announced = math.max(dump.announced, last)
    end
    take_piece(dump.files[message.kind], key, message, earlier)
end

-- FINISHED: what is missing now stays missing.
local function take_finished(dump, key, message, place)
    local again = dump.finished
    local ranges = dump.files[TYPE.VMCORE].ranges
    local gaps, missing, list = missing_ranges(ranges, dump.length or dump.announced)
    local facts = fact(key)
    facts.again, facts.repeats = again, again and dump.finished_in or nil
    facts.gaps, facts.missing, facts.missing_list = gaps, missing, list
    facts.received, facts.scattered = ranges.total, ranges.full
    if again then
        state.resent[dump.finished_in] = key
    end
    dump.finished, dump.finished_in = true, key
    remember(dump.sent, message.seqno, new_sent(key, place, message.kind, 0))
end

-- Anything but a HERALD. `length` is the dump's as a sound header tells it.
local function take_message(peer, place, key, message, length)
    local dump = find_dump(peer, place, message)
    if not dump then
        fact(key).stray = true
        return
    end
    dump.last_key = key
    if message.kind == TYPE.FINISHED then
        take_finished(dump, key, message, place)
    else
        take_data(dump, key, message, place)
        dump.length = dump.length or length
    end
end

