internal import HTTPServer
internal import HTTPTypes
internal import WebPage

extension Route {
    /// `/`: the page for people. It holds no data, and asks for a token itself where one is needed.
    static let index = Route([], isOpen: true, mediaType: "text/html") { _, services in
        let nonce = WebPage.makeNonce()
        var response = EndpointResponse(
            status: .ok, contentType: "text/html; charset=utf-8",
            body: WebPage.live(nonce: nonce, hasEvents: services.events != nil))
        response.head.headerFields[.contentSecurityPolicy] = WebPage.policy(nonce: nonce)
        response.head.headerFields[.cacheControl] = "no-store"
        return .now(response)
    }
}
