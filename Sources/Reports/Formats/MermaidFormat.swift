/// A report as a diagram (https://mermaid.js.org).
public protocol MermaidReport: Report {
    var mermaid: MermaidText { get }
}

extension ReportFormat {
    public static let mermaid = ReportFormat("mermaid", offeredBy: { $0 is any MermaidReport.Type }) { report, _ in
        (report as? any MermaidReport).map { TerminalText($0.mermaid) }
    }
}
