-- Datagrams ---------------------------------------------------------------------------------

local MAX_PAYLOAD_OF_NETDUMPD = 4096

local function followed(tvb, after, captured, length)
    if after + HEADER_SIZE > length then
        return false
    end
    return after + 4 > captured or VALUES.type[tvb(after, 4):uint()] ~= nil
end

local MESSAGE = {} -- the one at hand, for the same reason as PLACE

-- The message that begins `at` a place of a datagram, of which `captured` bytes are here.
-- `sound`: it ends with the datagram, or where another one begins; a server answers no other.
local function read_message(tvb, at, captured, length)
    local message, raw = MESSAGE, tvb:raw(at, HEADER_SIZE)
    local high, low = u32(raw, HEADER_AT.offset), u32(raw, HEADER_AT.offset + 4)
    local len, start = u32(raw, HEADER_AT.len), at + HEADER_SIZE
    message.kind, message.seqno = u32(raw, HEADER_AT.type), u32(raw, HEADER_AT.seqno)
    message.len = len
    message.high, message.low, message.offset = high, low, high * TWO_TO_32 + low
    message.at, message.start, message.after = at, start, start + len
    message.stop = math.min(start + len, captured)
    message.captured = message.stop - start
    message.known = VALUES.type[message.kind] ~= nil
    message.sound = message.known
        and (start + len == length or followed(tvb, start + len, captured, length))
    return message
end

local function show_payload(tree, tvb, message, stop)
    local kind, start = message.kind, message.start
    local at_start = message.high == 0 and message.low == 0 and start < stop
    if kind == TYPE.HERALD then
        return show_herald(tree, tvb, start, stop)
    elseif kind == TYPE.KDH and at_start then
        return show_kdh(tree, tvb, start, stop)
    elseif kind == TYPE.EKCD_KEY and at_start then
        return show_key(tree, tvb, start, stop)
    end
    show_data(tree, tvb, start, stop)
    if kind == TYPE.VMCORE and at_start then
        show_minidump(tree, tvb, start, stop)
    end
    if kind == TYPE.FINISHED then
        return ""
    end
    local offset = hex(message.high, message.low)
    return string.format(" seq %.0f off %s len %.0f", message.seqno, offset, message.len)
end

local function show_faults(tree, message, length)
    local text = ""
    if not message.known then
        tree:add_proto_expert_info(NOTE.type, string.format("Unknown type %.0f", message.kind))
        return text
    elseif not message.sound then
        local here = length - message.start
        local words = "len is %.0f, but the datagram holds %.0f bytes of payload"
        tree:add_proto_expert_info(NOTE.length, string.format(words, message.len, here))
        text = string.format(" [%.0f bytes instead]", here)
    end
    if message.offset > LIMIT.OFFSET then
        tree:add_proto_expert_info(NOTE.far)
    end
    if message.len > MAX_PAYLOAD_OF_NETDUMPD then
        tree:add_proto_expert_info(NOTE.refused)
    end
    return text
end

-- The path of a HERALD, as a server reads it.
local function path_of(tvb, message)
    if message.captured == 0 then
        return ""
    end
    local raw = tvb:raw(message.start, message.captured)
    return string.sub(raw, 1, (string.find(raw, "\0", 1, true) or 0) - 1)
end

local function take(tvb, place, key, message)
    local peer = state.peers[place.peer] or new_peer(place.peer, place)
    if message.kind == TYPE.HERALD then
        take_herald(peer, place, key, message.seqno, path_of(tvb, message))
        return
    end
    local length
    if message.kind == TYPE.KDH and message.offset == 0 then
        length = trusted_length(tvb, message.start, message.stop)
    end
    take_message(peer, place, key, message, length)
end

local function dump_of_message(place, key)
    local facts = state.facts[key]
    if facts and facts.herald then
        return dump_of_herald(facts.herald)
    elseif facts and facts.stray then
        return nil
    end
    local peer = state.peers[place.peer]
    return peer and dump_at(peer.flows[place.server_port], place.frame)
end

-- Shows one message, and takes it if that was not done before; returns its summary.
local function dissect_message(tvb, tree, place, index, message, length)
    local key = place.frame + index / IN_DATAGRAM
    local stop = message.sound and message.stop or tvb:len()
    local counts = message.sound and message.offset <= LIMIT.OFFSET
    if counts and not place.visited then
        take(tvb, place, key, message)
    end
    local branch = tree
    if something then
        branch = tree:add(proto, tvb(message.at, stop - message.at))
        show_header(branch, LAYOUT.message, tvb, message.at)
    end
    local name = VALUES.type[message.kind] or string.format("unknown type %.0f", message.kind)
    local text = name .. show_payload(branch, tvb, message, stop)
    text = text .. show_faults(branch, message, length)
    if counts then
        local dump = dump_of_message(place, key)
        text = text .. show_message_facts(branch, key, message, dump, place.visited)
    end
    if everything then
        branch:append_text(", " .. text)
    end
    return text
end

local function show_runt(tvb, tree, at)
    local branch = tree:add(proto, tvb(at))
    branch:add_proto_expert_info(NOTE.runt)
    show_data(branch, tvb, at, tvb:len())
    return "neither message nor ack"
end

-- All messages of a datagram; hosts that coalesce UDP capture many in one.
local function dissect_messages(tvb, tree, place)
    local captured, length = tvb:len(), tvb:reported_len()
    local at, index, summary = 0, 0, nil
    while at < captured do
        local text, after
        if at + HEADER_SIZE > captured then
            text, after = show_runt(tvb, tree, at), captured
        else
            local message = read_message(tvb, at, captured, length)
            text = dissect_message(tvb, tree, place, index, message, length)
            after = message.sound and message.after or captured
        end
        summary = summary or text
        at, index = after, index + 1
    end
    return index > 1 and string.format("%s (and %d more)", summary, index - 1) or summary
end

local function dump_of_ack(place, key)
    local linked = get_link(key)
    local herald = linked and state.facts[linked] and state.facts[linked].herald
    if herald then
        return dump_of_herald(herald)
    end
    return dump_at(acked_flow(state.peers[place.peer], place), place.frame)
end

-- All acks of a datagram.
local function dissect_acks(tvb, tree, place)
    local captured, length = tvb:len(), tvb:reported_len()
    if length % ACK_SIZE ~= 0 or captured < ACK_SIZE then
        return show_runt(tvb, tree, 0)
    end
    local index, first, seqno, text = 0, nil, nil, nil
    for at = 0, captured - ACK_SIZE, ACK_SIZE do
        local key = place.frame + index / IN_DATAGRAM
        seqno = tvb(at, ACK_SIZE):uint()
        first = first or seqno
        if not place.visited then
            take_ack(state.peers[place.peer], place, key, seqno)
        end
        local branch = tree
        if something then
            branch = tree:add(proto, tvb(at, ACK_SIZE))
            show_header(branch, LAYOUT.ack, tvb, at)
            calculated(branch, "ack", true)
        end
        local facts = show_ack_facts(branch, key, dump_of_ack(place, key))
        text = string.format("ACK %.0f%s", seqno, facts)
        if everything then
            branch:append_text(", " .. text)
        end
        index = index + 1
    end
    return index > 1 and string.format("ACK %.0f to %.0f (%d acks)", first, seqno, index) or text
end

