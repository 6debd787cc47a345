package import LinuxSupport
package import TraceModel

/// A namespace that is or was followed. An open descriptor alone keeps a namespace alive, so that it is closed with the sockets
/// once nobody else has the namespace any more.
package struct FollowedNamespace: Sendable {
    package var name: String
    package var inode: UInt64
    /// `nil` once it has vanished.
    package var namespace: NetworkNamespace?
    package var link: LinkWatch?
    package var routes: RouteWatch?
    /// Listings in a row that did not have it.
    package var misses = 0
    /// Whether it appeared while others were followed already, and its rules have not been read yet.
    package var isNew = false

    /// The namespace's counters when it began to be followed; `nil` where that could not be read.
    package var dropCounters: DropCounters?

    package init(name: String, inode: UInt64, namespace: NetworkNamespace?, link: LinkWatch?, routes: RouteWatch? = nil) {
        self.name = name
        self.inode = inode
        self.namespace = namespace
        self.link = link
        self.routes = routes
    }
}
