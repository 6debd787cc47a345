internal import Engine
internal import HostLayout
internal import LinuxSupport
internal import Logging
internal import Synchronization
internal import TraceModel

/// Namespaces come and go while the collector runs.
extension Collector {
    /// - Returns: `nil` where the namespaces cannot be listed, which says nothing of them.
    func listNamespaces() -> [NamespaceDirectory.Entry]? {
        var found: [NamespaceDirectory.Entry]?
        var failure: String?
        do {
            found = try NamespaceDirectory.list()
        } catch {
            failure = "\(error)"
        }
        let hadFailed = watched.withLock { watched in
            defer { watched.listFailure = failure.map { watched.listFailure ?? $0 } }
            return watched.listFailure != nil
        }
        if let failure, !hadFailed {
            logger.warning("cannot list the namespaces, so that none is taken up or let go: \(failure)")
        } else if failure == nil, hadFailed {
            logger.warning("the namespaces can be listed again")
        }
        return found
    }

    func tellOfLeftOut() {
        let news = state.withLock { state in
            state.leftOut.news(followed: state.places.count { $0.namespace != nil })
        }
        if let news { logger.warning("\(news)") }
    }

    static func place(_ namespace: NetworkNamespace) throws -> FollowedNamespace {
        var place = FollowedNamespace(
            name: namespace.name, inode: namespace.inode, namespace: namespace, link: try LinkWatch(namespace),
            routes: try RouteWatch(namespace, clock: EventLoop.clock))
        // Without them some drops have no reason; whatever else is wrong shows where it is needed.
        place.dropCounters = try? DropCounterReader.read(namespace)
        return place
    }

    /// - Returns: whether other namespaces are followed, or left out, than before.
    func take(newOf present: [NamespaceDirectory.Entry]) -> Bool {
        var isChanged = state.withLock { $0.leftOut.keep(Set(present.map(\.inode))) }
        DescriptorLimit.raise(to: present.count * NamespaceDirectory.perNamespace + NamespaceDirectory.reserve)
        for entry in present {
            let index: Int? = state.withLock { state in
                // The number of one that is gone may be another's by now.
                let isKnown = state.places.contains { $0.namespace?.inode == entry.inode }
                return isKnown ? nil : state.places.count
            }
            guard let index else { continue }
            let namespace: NetworkNamespace
            let source: NamespaceSource
            var place: FollowedNamespace
            do {
                try Self.checkRoom(for: entry.name)
                namespace = try entry.open()
                place = try Self.place(namespace)
                source = try NamespaceSource(
                    namespace, index: indexing.index(of: index), group: options.group, snapLength: options.snapLength,
                    parser: parser, registry: registry)
            } catch let error as NamespaceError where error.isAbsence {
                continue
            } catch {
                let reason = Self.reason(error, namespaces: present.count)
                isChanged =
                    state.withLock { $0.leftOut.insert(name: entry.name, inode: entry.inode, reason: reason) } || isChanged
                continue
            }
            place.isNew = true
            state.withLock { [place] in
                $0.places.append(place)
                _ = $0.leftOut.remove(inode: entry.inode)
            }
            watchRules(of: namespace, at: index)
            // Before the first event of it can come.
            for layout in indexing.layouts(name: namespace.name, inode: namespace.inode) { registry.add(layout) }
            logger.info("namespace \(namespace.name) has appeared: it is followed")
            mailbox.send(.layoutChanged)
            mailbox.send(.add(LoopMessage.Handover(source: source)))
            isChanged = true
        }
        return isChanged
    }

    /// Lets namespaces go that nobody else has any more: not found twice in a row, since the process that one is found by may
    /// just have ended. Those that were given as a path may have no name and no process, and stay.
    func dropVanished(_ present: [NamespaceDirectory.Entry]) -> Bool {
        let inodes = Set(present.map(\.inode))
        let gone = state.withLock { state in
            var gone: [Int] = []
            for index in state.places.indices where state.places[index].namespace != nil {
                let name = state.places[index].name
                let isPresent =
                    inodes.contains(state.places[index].inode) || name.contains("/") || NamespaceDirectory.isHidden(name)
                state.places[index].misses = isPresent ? 0 : state.places[index].misses + 1
                guard state.places[index].misses >= 2 else { continue }
                state.places[index].namespace = nil
                state.places[index].link = nil
                state.places[index].routes = nil
                gone.append(index)
            }
            return gone.map { ($0, state.places[$0].name) }
        }
        for (index, name) in gone {
            ruleset.remove(key: index)
            logger.warning("namespace \(name) has vanished: no longer traced")
            mailbox.send(.remove(indexing.index(of: index)))
        }
        return !gone.isEmpty
    }

    /// Tells of namespaces that have appeared and in which nothing reports packets.
    ///
    /// - Parameter read: places whose rules have been read.
    func tellOfNew(_ read: Set<Int>) {
        let layout = registry.current
        let unprobed = state.withLock { state in
            state.places.indices.filter { state.places[$0].isNew && read.contains($0) }.compactMap {
                index -> NetworkNamespace? in
                state.places[index].isNew = false
                let own = Set(indexing.indices(of: indexing.index(of: index)))
                let isProbed = layout.probes.indices.contains {
                    layout.isInForce[$0] && own.contains(layout.probes[$0].namespace)
                }
                return isProbed ? nil : state.places[index].namespace
            }
        }
        for namespace in unprobed {
            if let onUnprobed = options.onUnprobed {
                onUnprobed(namespace)
            } else {
                logger.warning(
                    """
                    nothing reports the packets in namespace \(namespace.name), which has appeared; put probes in with: \
                    ipt-trace install-probes --netns \(namespace.name), or start collect with --follow-netns
                    """)
            }
        }
    }
}
