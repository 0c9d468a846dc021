-- What was worked out, shown ---------------------------------------------------------------

local function frame_of(key)
    return math.floor(key)
end

-- What was worked out about an ack.
local function show_ack_facts(tree, key, dump)
    local linked, seconds = get_link(key)
    local facts = state.facts[key]
    local text = ""
    if linked then
        calculated(tree, "ack_to", linked)
        calculated(tree, "ack_time", seconds)
    elseif facts and facts.duplicate then
        text = " [acked before]"
        tree:add_proto_expert_info(NOTE.duplicate_ack)
        if facts.duplicate ~= true then
            calculated(tree, "ack_to", facts.duplicate)
        end
    elseif facts and facts.unexpected then
        text = " [of nothing seen]"
        tree:add_proto_expert_info(NOTE.unexpected_ack)
    end
    if dump then
        calculated(tree, "dump", dump.number)
    end
    return text
end

local function show_dump(tree, dump)
    calculated(tree, "dump", dump.number)
    calculated(tree, "client", dump.client_address)
    calculated(tree, "client_dump", dump.number_of_client)
end

local function show_repeat(tree, repeats)
    calculated(tree, "retransmission", true)
    local text = "Retransmission"
    if repeats then
        calculated(tree, "retransmission_of", repeats)
        text = string.format("%s of frame %.0f", text, frame_of(repeats))
    end
    tree:add_proto_expert_info(NOTE.retransmission, text)
    return repeats and string.format(" [repeats frame %.0f]", frame_of(repeats)) or " [repeated]"
end

-- Whether the capture has an ack, and where the message comes again.
local function show_answer(tree, key, dump, visited)
    local linked, resent = get_link(key), state.resent[key]
    if resent then
        calculated(tree, "resent_in", resent)
    end
    if linked then
        calculated(tree, "acked_in", linked)
    elseif visited and not resent and dump and dump.has_acks then
        tree:add_proto_expert_info(NOTE.never_acked)
    end
end

local function show_coverage(tree, key, message, facts, dump)
    local file = dump.files[TYPE.VMCORE]
    local expected, received
    if facts and facts.expected then
        expected, received = facts.expected, facts.received
    else
        expected = message.offset
        received = message.offset + message.captured - deficit_at(file, key)
    end
    calculated(tree, "expected_offset", expected)
    calculated(tree, "received", received)
    if facts and facts.gap then
        calculated(tree, "gap", facts.gap)
        tree:add_proto_expert_info(NOTE.gap, string.format("%.0f bytes were skipped", facts.gap))
        return string.format(" [%.0f bytes skipped]", facts.gap)
    end
    return ""
end

local function show_end(tree, facts)
    calculated(tree, "received", facts.received)
    calculated(tree, "missing", facts.missing)
    calculated(tree, "gaps", facts.gaps)
    for _, range in ipairs(facts.missing_list) do
        calculated(tree, "missing_range", range)
    end
    if facts.missing == 0 then
        return ""
    end
    local text = string.format("%.0f bytes missing in %.0f ranges", facts.missing, facts.gaps)
    tree:add_proto_expert_info(NOTE.bytes_missing, "Finished with " .. text)
    return " [" .. text .. "]"
end

local function show_odd(tree, facts)
    local text = ""
    if facts.stray then
        tree:add_proto_expert_info(NOTE.stray)
        text = " [stray]"
    end
    if facts.overlap then
        calculated(tree, "overlap", facts.overlap)
        tree:add_proto_expert_info(NOTE.overlap)
        text = text .. string.format(" [%.0f bytes overlap]", facts.overlap)
    end
    if facts.other_place then
        local words = "Same sequence number as frame %.0f, another place"
        local where = string.format(words, frame_of(facts.other_place))
        tree:add_proto_expert_info(NOTE.other_place, where)
    end
    if facts.scattered then
        tree:add_proto_expert_info(NOTE.too_scattered)
    end
    return text
end

-- What was worked out about a message; returns what the summary shall say of it.
local function show_message_facts(tree, key, message, dump, visited)
    local facts, text = state.facts[key], ""
    if dump then
        show_dump(tree, dump)
    end
    if facts and (facts.again or facts.copy or (facts.herald and facts.herald.repeated)) then
        text = show_repeat(tree, facts.repeats)
    end
    if dump and message.kind == TYPE.VMCORE and message.captured > 0 then
        text = text .. show_coverage(tree, key, message, facts, dump)
    elseif facts and facts.missing then
        text = text .. show_end(tree, facts)
    end
    if facts then
        text = text .. show_odd(tree, facts)
    end
    if visited and dump and key == dump.last_key and not dump.finished then
        calculated(tree, "broken_off", true)
        tree:add_proto_expert_info(NOTE.broken_off)
        text = text .. " [breaks off]"
    end
    show_answer(tree, key, dump, visited)
    return text
end

