-- Acks --------------------------------------------------------------------------------------

-- What a message and its ack know of each other: the other's key, and the seconds between. Of
-- frames that are long past, twelve bytes each in one string for a block of frames; what is
-- written to those after all, and what is not alone in its datagram, stands apart.
local BLOCK = 1024
local PACKED = "<i4d"
local PACKED_SIZE = 12

local function pack_block(block)
    local pieces = {}
    for at = 1, BLOCK do
        pieces[at] = Struct.pack(PACKED, block.away[at] or 0, block.seconds[at] or 0)
    end
    return table.concat(pieces)
end

local function open_block(number)
    local links = state.links
    for old, block in pairs(links.open) do
        if old < number - 1 then
            links.packed[old], links.open[old] = pack_block(block), nil
        end
    end
    links.open[number] = { away = {}, seconds = {} }
end

local function put_link(key, other, seconds)
    local links, number = state.links, math.floor(key / BLOCK)
    if key % 1 ~= 0 or other % 1 ~= 0 or links.packed[number] then
        links.apart[key] = { other, seconds }
        return
    end
    if not links.open[number] then
        open_block(number)
    end
    local block, at = links.open[number], key % BLOCK + 1
    block.away[at], block.seconds[at] = other - key, seconds
end

-- The key of the other one, and the seconds between; nothing if there is no other.
local function get_link(key)
    local links, number = state.links, math.floor(key / BLOCK)
    local apart, at = links.apart[key], key % BLOCK
    if apart then
        return apart[1], apart[2]
    elseif key % 1 ~= 0 then
        return nil
    end
    local away, seconds
    if links.open[number] then
        away, seconds = links.open[number].away[at + 1], links.open[number].seconds[at + 1]
    elseif links.packed[number] then
        away, seconds = Struct.unpack(PACKED, links.packed[number], at * PACKED_SIZE + 1)
    end
    if away and away ~= 0 then
        return key + away, seconds
    end
    return nil
end

-- Seconds from a message to its ack. Times since the first frame are exact, but begin anew
-- where the user has set a time reference; those since 1970 lack the nanoseconds.
local function seconds_between(sent, place)
    local exact, rough = place.rel - sent[REL], place.time - sent[TIME]
    return math.abs(exact - rough) < 0.00001 and exact or rough
end

local function link(key, sent, place)
    sent[ACKED] = true
    local seconds = seconds_between(sent, place)
    put_link(key, sent[KEY], seconds)
    put_link(sent[KEY], key, seconds)
end

-- The flow of dumps that a server acks. It may ack to 20024 whatever port the client has.
local function acked_flow(peer, place)
    local flow = peer and peer.flows[place.server_port]
    return flow or state.answering[place.server .. "|" .. place.server_port .. "|" .. place.client]
end

-- An ack to a HERALD that waits tells where its dump goes.
local function take_answer(place, key, seqno)
    for _, herald in ipairs(waiting_between(place.client, place.server)) do
        if herald.seqno == seqno then
            herald.answers[place.server_port] = true
            if not herald.sent[ACKED] then
                link(key, herald.sent, place)
            else
                fact(key).duplicate = herald.key
            end
            return true
        end
    end
    return false
end

local function take_ack(peer, place, key, seqno)
    local dump = running(acked_flow(peer, place))
    local sent = dump and recall(dump.sent, seqno)
    if dump then
        dump.has_acks = true
    end
    if sent and not sent[ACKED] then
        link(key, sent, place)
        add_range(dump.acked, seqno, seqno + 1)
    elseif next(state.waiting) and take_answer(place, key, seqno) then
        return
    elseif sent then
        fact(key).duplicate = sent[KEY]
    elseif dump and held(dump.acked, seqno, seqno + 1) > 0 then
        fact(key).duplicate = true
    else
        fact(key).unexpected = true
    end
end

