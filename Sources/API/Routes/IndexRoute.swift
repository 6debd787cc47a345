internal import HTTPServer
internal import Reports

extension Route {
    /// `/`: the resources that there are.
    static let index = Route([], isOpen: true, isText: true) { _, _ in .now(.text(indexText)) }

    private static var indexText: String {
        let lines = TraceRoutes.all.filter { !$0.path.isEmpty }.map { route in
            let path = "/\(route.path.joined(separator: "/"))"
            let parameters = route.filters.map { "\($0.rawValue)=" }.joined(separator: " &")
            let rest = parameters.isEmpty ? route.note : "?\(parameters)"
            return rest.isEmpty ? path : path.padding(to: 14) + rest
        }
        return "ipt-trace: which way packets take through iptables\n\n\(lines.joined(separator: "\n"))\n\n"
    }
}

extension String {
    fileprivate func padding(to width: Int) -> String { self + String(repeating: " ", count: max(1, width - count)) }
}
