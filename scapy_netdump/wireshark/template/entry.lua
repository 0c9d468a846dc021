-- Ports and preferences ---------------------------------------------------------------------

proto.prefs.server_ports = Pref.range("Server ports", tostring(HERALD_PORT),
    "UDP ports that take HERALDs; the rest of a dump goes to a port that the server picks", 65535)
proto.prefs.client_ports = Pref.range("Client ports", tostring(ACK_PORT),
    "UDP ports of clients; those of captured HERALDs are followed anyway", 65535)
proto.prefs.heuristic = Pref.bool("Look for netdump on all UDP ports", true,
    "Take datagrams for netdump whose type and length could not be more right")

-- "1-3,7" as a set of numbers.
local function port_set(text)
    local set = {}
    for first, last in string.gmatch(tostring(text), "(%d+)%-?(%d*)") do
        for port = tonumber(first), tonumber(last) or tonumber(first) do
            set[port] = true
        end
    end
    return set
end

local registered = {}

local function use_ports(for_servers, for_clients)
    server_ports, client_ports = port_set(for_servers), port_set(for_clients)
    local udp_ports = DissectorTable.get("udp.port")
    for _, range in ipairs(registered) do
        udp_ports:remove(range, proto)
    end
    registered = {}
    for _, range in ipairs({ tostring(for_servers), tostring(for_clients) }) do
        if string.find(range, "%d") then
            udp_ports:add(range, proto)
            registered[#registered + 1] = range
        end
    end
end

function proto.prefs_changed()
    use_ports(proto.prefs.server_ports, proto.prefs.client_ports)
end

-- Dissection --------------------------------------------------------------------------------

proto.init = forget_all

local function peer_name(client, port, server)
    return client .. "|" .. port .. "|" .. server
end

local function known_peer(name, frame)
    local peer = state.peers[name]
    return peer ~= nil and peer.since <= frame
end

-- So like a message that chance is out of the question: type, and length to the byte.
local function looks_like_message(tvb)
    local length = tvb:reported_len()
    if length < HEADER_SIZE or tvb:len() < HEADER_SIZE then
        return false
    end
    local message = read_message(tvb, 0, tvb:len(), length)
    return message.sound and message.offset <= LIMIT.OFFSET
end

-- Which way a datagram goes, as ports and earlier frames tell: from a client, to a client.
local function ways_of(place, pinfo)
    local from, to = place.source_port, place.destination_port
    if server_ports[to] or server_ports[from] then
        return server_ports[to], not server_ports[to]
    end
    local upward, downward = client_ports[from], client_ports[to]
    if not upward and not downward then
        upward = known_peer(peer_name(place.source, from, place.destination), pinfo.number)
        downward = known_peer(peer_name(place.destination, to, place.source), pinfo.number)
    end
    return upward, downward
end

-- Whether a datagram is for a client, an ack; nil if it is not netdump.
local function is_for_client(tvb, pinfo, place, certain)
    local upward, downward = ways_of(place, pinfo)
    if upward and downward then
        return tvb:reported_len() == ACK_SIZE
    elseif upward or downward then
        return not upward
    elseif (certain or proto.prefs.heuristic) and looks_like_message(tvb) then
        return false
    elseif certain then
        return tvb:reported_len() % ACK_SIZE == 0
    end
    return nil
end

local function show(tvb, pinfo, tree, place, for_client)
    if for_client then
        place.client, place.server = place.destination, place.source
        place.client_port, place.server_port = place.destination_port, place.source_port
    else
        place.client, place.server = place.source, place.destination
        place.client_port, place.server_port = place.source_port, place.destination_port
    end
    place.peer = peer_name(place.client, place.client_port, place.server)
    place.frame, place.visited = pinfo.number, pinfo.visited
    if not place.visited then
        place.time, place.rel = pinfo.abs_ts, pinfo.rel_ts
    end
    look_at(tree)
    local text
    if for_client then
        text = dissect_acks(tvb, tree, place)
    else
        text = dissect_messages(tvb, tree, place)
    end
    pinfo.cols.protocol = "Netdump"
    pinfo.cols.info = text
end

-- An ICMP error quotes what somebody sent: it is neither sent nor answered by that.
local function show_quoted(tvb, tree, for_client)
    local branch = tree:add(proto, tvb())
    branch:append_text(for_client and ", an ack quoted by an error" or ", quoted by an error")
    branch:add(FIELD.quoted, true):set_generated()
end

local PLACE = {} -- of the datagram at hand: a table for each would be most of the garbage

local function dissect(tvb, pinfo, tree, certain)
    local place = PLACE
    place.source, place.destination = address_id(pinfo.src), address_id(pinfo.dst)
    place.source_port, place.destination_port = pinfo.src_port, pinfo.dst_port
    local for_client = is_for_client(tvb, pinfo, place, certain)
    if for_client == nil then
        return false
    elseif pinfo.in_error_pkt then
        show_quoted(tvb, tree, for_client)
    else
        show(tvb, pinfo, tree, place, for_client)
    end
    return true
end

function proto.dissector(tvb, pinfo, tree)
    dissect(tvb, pinfo, tree, true)
    return tvb:len()
end

-- For ports that nobody has: those that servers pick, and those of clients behind NAT. From
-- here on the flow is netdump's, even if its ports mean something else to Wireshark.
local function guess(tvb, pinfo, tree)
    if not dissect(tvb, pinfo, tree, false) then
        return false
    end
    if not pinfo.in_error_pkt then
        pinfo.conversation = proto
    end
    return true
end

dissector = Dissector.get("fbsd_netdump")
proto:register_heuristic("udp", guess)
use_ports(HERALD_PORT, ACK_PORT)
