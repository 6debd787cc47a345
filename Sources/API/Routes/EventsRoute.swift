internal import HTTPServer
internal import HTTPTypes
internal import Reports

extension Route {
    /// `/events`: what happens, as server-sent events.
    static let events = Route(
        ["events"], filters: [.proto, .outcome, .address, .port, .netns], mediaType: "text/event-stream", isStream: true
    ) {
        request, services in
        guard let feed = services.events else {
            return .now(.problem(.notFound, "files are not followed as events; ask a collector"))
        }
        let filter = try request.filter([.proto, .outcome, .address, .port, .netns])
        return .stream(contentType: "text/event-stream", EventSource(reader: feed.reader(filter, after: request.lastEventID)))
    }

    private struct EventSource: StreamSource {
        let reader: EventFeed.Reader

        func next() -> [UInt8] { Array(reader.next().utf8) }
    }
}
